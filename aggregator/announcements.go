package aggregator

import "github.com/annex-api/annex/aggregator/internal/announce"

// announcements says what is announced of APIServices, and by whom.
func (a *Aggregator) announcements() announce.Config {
	c := announce.Config{Look: a.views}
	if a.writer != nil && a.config.Status.Events != nil {
		c.Events = a.config.Status.Events
		c.Reports = func() bool { return a.writer.Term() > 0 }
	}
	return c
}

// views are all APIServices that lead to extension servers, as this server sees them.
func (a *Aggregator) views() []announce.View {
	all, _ := a.glance()
	views := make([]announce.View, 0, len(all))
	for i := range all {
		s, judged := all[i].APIService, all[i].assessment
		if s.Object == nil {
			continue
		}
		v := announce.View{Object: s.Object, State: announce.State(judged.State), Reason: judged.Reason, Message: judged.Message}
		if v.State == announce.Healthy { // nothing is to be said of it but what the condition says
			v.Reason, v.Message = s.Verdict.Reason, s.Verdict.Message
		}
		views = append(views, v)
	}
	return views
}
