package proxy

import (
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalversionscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/aggregator/internal/respond"
)

// watchListOptions are those of a watch whose client waits for the end of initial
// events; false for any other, and for those that cannot be read here.
func watchListOptions(r *http.Request) (options internalversion.ListOptions, asked bool) {
	if q := r.URL.RawQuery; !strings.Contains(q, "sendInitialEvents") && !strings.Contains(q, "%") {
		return options, false
	}
	query := r.URL.Query()
	if len(query["sendInitialEvents"]) == 0 {
		return options, false
	}
	err := internalversionscheme.ParameterCodec.DecodeParameters(query, metav1.SchemeGroupVersion, &options)
	return options, err == nil && options.SendInitialEvents != nil && *options.SendInitialEvents
}

// asksForWatchList says whether a watch has such options. Its frame, like that of
// refuseWatchList, is not to be a part of one that lasts as long as a watch.
//
//go:noinline
func asksForWatchList(r *http.Request) bool {
	_, asked := watchListOptions(r)
	return asked
}

// refuseWatchList answers a watch with initial events as an API server without
// WatchList does. Clients then list and watch. It answers no other request, and says
// so.
//
//go:noinline
func refuseWatchList(w http.ResponseWriter, r *http.Request) (refused bool) {
	options, asked := watchListOptions(r)
	if !asked {
		return false
	}
	options.Watch = true // the path may say so alone
	errs := validation.ValidateListOptions(&options, false)
	respond.WriteStatus(w, r, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs).ErrStatus)
	return true
}
