package doctor

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/diagnosis"
)

// documentFaults are about what API servers download: lists of resources, and OpenAPI.
func documentFaults() []fault {
	return []fault{
		{
			name: "fails", code: diagnosis.FailedDiscoveryCheck,
			how:  "the server answers 500 to everybody",
			plan: func(s *site) { s.manner.broken = true },
			run:  []string{"kubectl get apiservice"}, by: "what its log says is set right", mend: behaves,
		},
		{
			name: "stale", code: diagnosis.DiscoveryStale, available: true,
			how: "after its resources were known, the server answers 503 at /apis",
			after: func(ctx context.Context, s *site) error {
				if err := until(ctx, "its resources are not known", func() error {
					r, err := s.examine(ctx, s.name())
					if err == nil && len(r.Findings) > 0 {
						err = fmt.Errorf("%s", summary(r))
					}
					return err
				}); err != nil {
					return err
				}
				s.server.change(func(m *manner) { m.groupsAway = true })
				return s.downloadAgain(ctx)
			},
			run: []string{"kubectl get apiservice", "kubectl wait"}, by: "the server knows its groups", mend: behaves,
		},
		{
			// What is not known at all is listed as stale.
			name: "unknown-resources", code: diagnosis.DiscoveryStale, also: []diagnosis.Code{diagnosis.DiscoveryFailed}, available: true,
			only: build.Annex, why: "says that it is stale, and no more",
			how:  "the server answers 503 at /apis, and always did",
			plan: func(s *site) { s.manner.groupsAway = true },
			run:  []string{"kubectl get --raw", "logs server-0"}, by: "the server knows its groups", mend: behaves,
		},
		{
			name: "no-kind", code: diagnosis.DiscoveryWarning, available: true,
			only: build.Annex, why: "does not say so",
			how:  "the server's list of resources does not say that it is one",
			plan: func(s *site) { s.manner.namesNoKind = true },
			run:  []string{"kubectl get --raw"}, by: "the server names the kind",
			mend: func(ctx context.Context, s *site) error { return s.mendedDownload(ctx) },
		},
		{
			name: "half-openapi", code: diagnosis.OpenAPIFailed, available: true,
			only: build.Annex, why: "says so in its log alone",
			how:  "the server's OpenAPI documents end in their midst",
			plan: func(s *site) { s.manner.badOpenAPI = true },
			run:  []string{"kubectl get --raw", "kubectl get remoteapiservice"}, by: "the server writes them whole",
			mend: func(ctx context.Context, s *site) error { return s.mendedDownload(ctx) },
		},
		{
			name: "older-openapi", code: diagnosis.OpenAPIStale, available: true,
			only: build.Annex, why: "says so in its log alone",
			how: "the same, after they were whole once",
			after: func(ctx context.Context, s *site) error {
				if err := s.knowsOpenAPI(ctx); err != nil {
					return err
				}
				s.server.change(func(m *manner) { m.badOpenAPI = true })
				return s.downloadAgain(ctx)
			},
			run: []string{"kubectl get --raw", "logs server-0"}, by: "the server writes them whole",
			mend: func(ctx context.Context, s *site) error { return s.mendedDownload(ctx) },
		},
		{
			name: "held-up", code: diagnosis.WatchListMissing, also: []diagnosis.Code{diagnosis.ControllersHeldUp}, available: true,
			only: build.Reference, why: "refuses such watches",
			how:  "the garbage collector's watch of the server's objects never becomes complete",
			plan: func(s *site) { s.manner.noBookmark = true },
			by:   "the server is upgraded", mend: behaves,
		},
	}
}

// downloadAgain has API servers download what the server says: the APIService leads elsewhere, and back.
func (s *site) downloadAgain(ctx context.Context) error {
	for _, port := range []int{8443, 443} {
		if err := s.patchAPIService(ctx, object{"spec": object{"service": object{"port": port}}}); err != nil {
			return err
		}
		if err := s.settled(ctx, fault{available: port == 443}); err != nil {
			return err
		}
	}
	return nil
}

// mendedDownload is a server that is restarted, well, so that its documents are downloaded again.
func (s *site) mendedDownload(ctx context.Context) error {
	if err := behaves(ctx, s); err != nil {
		return err
	}
	return s.downloadAgain(ctx)
}

// knowsOpenAPI waits until Annex has the server's OpenAPI documents.
func (s *site) knowsOpenAPI(ctx context.Context) error {
	return until(ctx, "its OpenAPI documents are not known", func() error {
		content, err := s.Get(ctx, "/apis/aggregation.annex.dev/v1alpha1/remoteapiservices/"+s.name(), nil)
		if err != nil {
			return err
		}
		var remote v1alpha1.RemoteAPIService
		if err := json.Unmarshal(content, &remote); err != nil {
			return err
		}
		if d := remote.Status.OpenAPIV2; d.Freshness != v1alpha1.Current {
			return fmt.Errorf("OpenAPI v2 is %s: %s", d.Freshness, d.Problem)
		}
		return nil
	})
}
