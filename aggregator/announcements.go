package aggregator

import (
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/announce"
)

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
	remotes := a.snapshot.Load().Remotes()
	views := make([]announce.View, 0, len(remotes))
	for _, s := range remotes {
		v := announce.View{Object: s.Object, State: announce.Unknown, Reason: s.Verdict.Reason, Message: s.Verdict.Message}
		switch s.Verdict.Status {
		case apiregistrationv1.ConditionTrue:
			v.State = announce.Healthy
		case "":
		default:
			v.State = announce.Unavailable
		}
		if s.Object != nil {
			views = append(views, v)
		}
	}
	return views
}
