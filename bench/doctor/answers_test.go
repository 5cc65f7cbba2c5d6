package doctor

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/diagnosis"
)

// behaves has the server behave well again: it is restarted, mended or upgraded.
func behaves(_ context.Context, s *site) error {
	s.server.change(func(m *manner) { *m = manner{serves: m.serves} })
	return nil
}

func answerFaults() []fault {
	restarted := func(ctx context.Context, s *site) error { return errors.Join(s.rolledOut(ctx), behaves(ctx, s)) }
	return []fault{
		{
			name: "other-version", code: diagnosis.GroupVersionNotServed, short: true,
			how: "the server was upgraded, and serves v2 where the APIService is for v1",
			inject: func(_ context.Context, s *site) error {
				s.server.change(func(m *manner) { m.serves = []string{s.group + "/v2"} })
				return nil
			},
			run: []string{"kubectl delete apiservice"}, gone: true,
		},
		{
			name: "another-answers", code: diagnosis.AnsweredByAnother,
			how:  "something else has the Pod's address, and answers 503 with a page of HTML",
			plan: func(s *site) { s.manner.html = http.StatusServiceUnavailable },
			run:  []string{"get endpointslices"}, by: "the other process is ended", mend: behaves,
		},
		{
			name: "no-resources", code: diagnosis.NoResources, available: true,
			how:  "the server's list of resources is empty",
			plan: func(s *site) { s.manner.empty = true },
			run:  []string{"kubectl get --raw"}, by: "a resource is configured", mend: behaves,
		},
		{
			name: "frozen", code: diagnosis.SlowDiscovery, also: []diagnosis.Code{diagnosis.DiscoveryIncomplete},
			how:  "the server takes connections, and does not answer",
			plan: func(s *site) { s.manner.delay = time.Hour },
			run:  []string{"logs server-0", "rollout restart"}, mend: restarted,
		},
		{
			name: "slow", code: diagnosis.SlowDiscovery, available: true,
			how:  "the server says after four seconds what it serves",
			plan: func(s *site) { s.manner.delay = 4 * time.Second },
			run:  []string{"rollout restart"}, mend: restarted,
		},
		{
			name: "refuses-protobuf", code: diagnosis.ProtobufRefused, available: true,
			how:  "the server answers 406 where protobuf is preferred to JSON",
			plan: func(s *site) { s.manner.refusesProtobuf = true },
			run:  []string{"kubectl get --raw"}, by: "the server falls back to JSON", mend: behaves,
		},
		{
			name: "forgetful", code: diagnosis.StorageDown, available: true,
			how:  "every other list lacks what is stored, as of replicas that do not share a storage",
			plan: func(s *site) { s.manner.forgetful = true },
			run:  []string{"logs server-0"}, by: "replicas share one storage", mend: behaves,
		},
		{
			name: "storage-away", code: diagnosis.StorageDown, available: true,
			how:  "the server says of itself that its etcd is away",
			plan: func(s *site) { s.manner.notReady = "etcd" },
			run:  []string{"logs server-0"}, by: "its storage comes back", mend: behaves,
		},
		{
			name: "full", code: diagnosis.TooManyRequests, available: true,
			how:  "the server answers 429 to lists",
			plan: func(s *site) { s.manner.full = true },
			run:  []string{"scale deployment/server --replicas=3"}, mend: restarted,
		},
		{
			name: "no-bookmark", code: diagnosis.WatchListMissing, available: true, short: true,
			how:  "watches with sendInitialEvents never get the bookmark that ends them",
			plan: func(s *site) { s.manner.noBookmark = true },
			run:  []string{"watch-list=refuse"}, by: "on kube-apiserver, which knows no such setting, the server is upgraded",
			mend: func(ctx context.Context, s *site) error {
				if s.cluster.name == build.Annex {
					return nil
				}
				return behaves(ctx, s)
			},
		},
		{
			name: "no-openapi", code: diagnosis.OpenAPIMissing, available: true,
			how:  "the server has no OpenAPI documents",
			plan: func(s *site) { s.manner.noOpenAPI = true },
			by:   "the server serves OpenAPI", mend: behaves,
		},
		{
			name: "bad-openapi", code: diagnosis.OpenAPIBroken, available: true,
			how:  "the server's OpenAPI refers to a definition that is not in it",
			plan: func(s *site) { s.manner.dangling = true },
			run:  []string{"kubectl delete apiservice"}, gone: true,
		},
	}
}
