package registration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-logr/logr"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	applyv1 "k8s.io/kube-aggregator/pkg/client/applyconfiguration/apiregistration/v1"
)

const (
	// pollPause is between two looks where the host allows no watch.
	pollPause = 30 * time.Second
	// callTimeout bounds one call of the host, watchTimeout a watch.
	callTimeout, watchTimeout = 10 * time.Second, 10 * time.Minute
)

// keeper keeps one APIService. Its fields belong to one goroutine.
type keeper struct {
	options    Options
	apiService APIService
	log        logr.Logger

	pace pace
	// written is the bundle that was written last.
	written []byte
	wrote   bool
	// polls is set once a watch was refused.
	polls bool
	// owned is set once the owner, or a reference to it, was found.
	owned bool
	// told is what was said last, to say it once; toldOwner is the same for the owner.
	told, toldOwner string
}

// run looks, writes and watches until ctx ends.
func (k *keeper) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		begun := time.Now()
		err := k.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errEnded) {
			k.say("Cannot look at the APIService", err.Error())
		}
		if time.Since(begun) > longestPause {
			pause = firstPause
		}
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, longestPause)
	}
}

// follow looks once, and then sees every change until the watch ends. Without a watch
// it looks again and again.
func (k *keeper) follow(ctx context.Context) error {
	seen, version, err := k.look(ctx)
	if err != nil {
		return err
	}
	var events <-chan watch.Event
	if !k.polls {
		w, err := k.watch(ctx, version)
		switch {
		case apierrors.IsForbidden(err):
			k.poll(err)
		case err != nil:
			return err
		default:
			defer w.Stop()
			events = w.ResultChan()
		}
	}
	for {
		bundle, changed := k.options.Bundle()
		var again time.Duration
		if seen, again, err = k.settle(ctx, seen, bundle); err != nil {
			k.say("Cannot register; trying again", err.Error())
		}
		if events == nil && (again == 0 || again > pollPause) {
			again = pollPause
		}
		if seen, err = k.await(ctx, seen, events, changed, again); err != nil {
			return err
		}
	}
}

// errEnded says that a watch, or the context, has ended.
var errEnded = errors.New("ended")

// await waits for the next thing to think about, for again at most unless that is zero,
// and gives the object after it.
func (k *keeper) await(ctx context.Context, seen *apiregistrationv1.APIService, events <-chan watch.Event, changed <-chan struct{}, again time.Duration) (*apiregistrationv1.APIService, error) {
	var timer <-chan time.Time
	if again > 0 {
		t := time.NewTimer(again)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return nil, errEnded
	case <-changed:
		return seen, nil
	case <-timer:
		if events != nil {
			return seen, nil
		}
		found, _, err := k.look(ctx)
		return found, err
	case event, ok := <-events:
		if !ok {
			return nil, errEnded
		}
		return k.after(event, seen)
	}
}

// look gets the object, nil if it is not there, and the version to watch from.
func (k *keeper) look(ctx context.Context) (*apiregistrationv1.APIService, string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if !k.polls {
		// The host takes this selector for the name, so a right for one name is enough.
		list, err := k.options.Client.List(ctx, metav1.ListOptions{FieldSelector: k.selector()})
		if err == nil {
			for i := range list.Items {
				if list.Items[i].Name == k.apiService.Name() {
					return &list.Items[i], list.ResourceVersion, nil
				}
			}
			return nil, list.ResourceVersion, nil
		}
		if !apierrors.IsForbidden(err) {
			return nil, "", fmt.Errorf("list: %w", err)
		}
		k.poll(err)
	}
	a, err := k.options.Client.Get(ctx, k.apiService.Name(), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, "", nil
	case err != nil:
		return nil, "", fmt.Errorf("get: %w", err)
	}
	return a, "", nil
}

// older says whether one resource version is certainly before another.
func older(one, other string) bool {
	order, err := resourceversion.CompareResourceVersion(one, other)
	return err == nil && order < 0
}

func (k *keeper) watch(ctx context.Context, version string) (watch.Interface, error) {
	seconds := int64(watchTimeout.Seconds())
	w, err := k.options.Client.Watch(ctx, metav1.ListOptions{FieldSelector: k.selector(), ResourceVersion: version, TimeoutSeconds: &seconds})
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	return w, nil
}

func (k *keeper) selector() string {
	return fields.OneTermEqualSelector("metadata.name", k.apiService.Name()).String()
}

// poll notes that this server may not watch.
func (k *keeper) poll(err error) {
	k.polls = true
	k.log.Info("This server may not list and watch its APIService, and looks at it from time to time", "every", pollPause, "reason", err.Error())
}

// after gives the object after an event.
func (k *keeper) after(event watch.Event, seen *apiregistrationv1.APIService) (*apiregistrationv1.APIService, error) {
	if event.Type == watch.Error {
		return nil, fmt.Errorf("watch: %w", apierrors.FromObject(event.Object))
	}
	a, ok := event.Object.(*apiregistrationv1.APIService)
	switch {
	case !ok || a.Name != k.apiService.Name() || event.Type == watch.Bookmark:
		return seen, nil
	case seen != nil && older(a.ResourceVersion, seen.ResourceVersion):
		return seen, nil // from before this server's last write
	case event.Type == watch.Deleted:
		return nil, nil
	}
	return a, nil
}

// settle writes if that is due. It gives the object as it is then, and after which time
// to ask again.
func (k *keeper) settle(ctx context.Context, seen *apiregistrationv1.APIService, bundle []byte) (*apiregistrationv1.APIService, time.Duration, error) {
	if seen != nil && seen.DeletionTimestamp != nil {
		return seen, 0, nil // its end is an event
	}
	if of := foreign(seen); of != "" {
		k.options.Refusals.set(k.apiService.Name(), of)
		k.say("Not registered", of)
		return seen, 0, nil // its end is an event, too
	}
	k.options.Refusals.set(k.apiService.Name(), "")
	manager := FieldManager(k.options.Name)
	want := k.wanted(bundle)
	fresh := !k.wrote || string(k.written) != string(bundle)
	// The owner is asked for when there is something to write, or to own.
	found := compare(want, seen, manager)
	if len(found.fields) > 0 || !k.hasOwner(seen) {
		owner, err := k.owner(ctx, seen)
		if err != nil {
			k.say("Not registered", err.Error())
			return seen, pollPause, nil
		}
		if owner != nil {
			want.OwnerReferences = []metav1.OwnerReference{*owner}
			found = compare(want, seen, manager)
		}
	}
	now := time.Now()
	write, again := k.pace.next(found, fresh, now)
	if !write {
		if len(found.fields) == 0 {
			k.written, k.wrote, k.told = bundle, true, ""
		}
		return seen, again, nil
	}
	k.pace.tried(now)
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	after, err := k.options.Client.Apply(call, configuration(want, seen), metav1.ApplyOptions{FieldManager: manager, Force: true})
	if err != nil {
		return seen, max(k.pace.pause, firstPause), fmt.Errorf("apply: %w", err)
	}
	if fresh {
		k.pace.renewed()
	}
	k.report(seen, found, fresh)
	k.written, k.wrote = bundle, true
	return after, 0, nil
}

// automanaged is the label of an APIService that the host itself keeps, such as one of a
// CustomResourceDefinition.
const automanaged = "kube-aggregator.kubernetes.io/automanaged"

// foreign says whose an APIService is that this server may not take: all kinds of the
// group version would be gone from where they are served, and the host would write it back.
func foreign(seen *apiregistrationv1.APIService) string {
	if seen == nil || seen.Spec.Service != nil && seen.Labels[automanaged] == "" {
		return ""
	}
	return fmt.Sprintf("the host itself serves %s/%s, by a CustomResourceDefinition perhaps: remove that, or serve another group or version here", seen.Spec.Group, seen.Spec.Version)
}

// report says what was written and why: each fight once.
func (k *keeper) report(seen *apiregistrationv1.APIService, d difference, fresh bool) {
	by := d.by
	if by == "" {
		by = "unknown"
	}
	switch changed := strings.Join(d.fields, ", "); {
	case seen == nil && !k.wrote:
		k.log.Info("Registered")
	case fresh:
		k.log.Info("Registered anew", "changed", changed)
	case k.pace.repairs <= 2:
		k.log.Info("Somebody changed the registration, and it was set right", "changed", changed, "field manager", by)
	case k.pace.repairs == 3:
		k.log.Info("Somebody changes the registration again and again; it is set right at most once a minute, without another line", "changed", changed, "field manager", by)
	}
}

// say says each thing once, until all is well.
func (k *keeper) say(what, reason string) {
	if k.told == what+reason {
		return
	}
	k.told = what + reason
	k.log.Info(what, "reason", reason)
}

var errUninstalled = errors.New("the ClusterRole that owns the APIService is gone: the server is being uninstalled")

// owner looks up the reference to the owner; nil if there is none. Where it was there
// and is gone, that is an uninstallation, and nothing may be registered again.
func (k *keeper) owner(ctx context.Context, seen *apiregistrationv1.APIService) (*metav1.OwnerReference, error) {
	name := k.options.Owner
	if name == "" {
		return nil, nil
	}
	var last *metav1.OwnerReference
	if seen != nil {
		for i, o := range seen.OwnerReferences {
			if o.Kind == "ClusterRole" && o.Name == name {
				last, k.owned = &seen.OwnerReferences[i], true
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	role, err := k.options.ClusterRoles.Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil:
		k.owned = true
		return &metav1.OwnerReference{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole", Name: name, UID: role.UID}, nil
	case apierrors.IsNotFound(err) && k.owned:
		return nil, errUninstalled
	case apierrors.IsNotFound(err):
		k.ownerless("there is no ClusterRole " + name)
		return nil, nil
	case last != nil:
		return last, nil // applying without it would remove it
	case k.owned:
		// An uninstallation takes the right to read it along.
		return nil, fmt.Errorf("the ClusterRole %s that owned the APIService cannot be read: %w", name, err)
	}
	k.ownerless("ClusterRole " + name + " cannot be read: " + err.Error())
	return nil, nil
}

// ownerless says once why the APIService has no owner.
func (k *keeper) ownerless(reason string) {
	if k.toldOwner != reason {
		k.toldOwner = reason
		k.log.Info("The APIService gets no owner, and stays when the server is uninstalled", "reason", reason)
	}
}

// hasOwner says whether seen names the owner, or needs none.
func (k *keeper) hasOwner(seen *apiregistrationv1.APIService) bool {
	if k.options.Owner == "" {
		return true
	}
	if seen == nil {
		return false
	}
	for _, o := range seen.OwnerReferences {
		if o.Kind == "ClusterRole" && o.Name == k.options.Owner {
			return true
		}
	}
	return false
}

// wanted is the object without its owner.
func (k *keeper) wanted(bundle []byte) *apiregistrationv1.APIService {
	o, port := k.options, k.options.Port
	return &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: k.apiService.Name(), Annotations: k.apiService.Annotations},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: k.apiService.GroupVersion.Group, Version: k.apiService.GroupVersion.Version,
			Service:              &apiregistrationv1.ServiceReference{Namespace: o.Service.Namespace, Name: o.Service.Name, Port: &port},
			GroupPriorityMinimum: o.GroupPriorityMinimum, VersionPriority: k.apiService.VersionPriority, CABundle: bundle,
		},
	}
}

// configuration is what is applied to make seen as wanted.
func configuration(want, seen *apiregistrationv1.APIService) *applyv1.APIServiceApplyConfiguration {
	spec := applyv1.APIServiceSpec().WithGroup(want.Spec.Group).WithVersion(want.Spec.Version).
		WithGroupPriorityMinimum(want.Spec.GroupPriorityMinimum).WithVersionPriority(want.Spec.VersionPriority).
		WithService(applyv1.ServiceReference().WithNamespace(want.Spec.Service.Namespace).WithName(want.Spec.Service.Name).WithPort(*want.Spec.Service.Port))
	if len(want.Spec.CABundle) > 0 {
		spec = spec.WithCABundle(want.Spec.CABundle...)
	}
	if seen != nil && seen.Spec.InsecureSkipTLSVerify {
		// Somebody set it. It is named to take it back, and never to set it.
		spec = spec.WithInsecureSkipTLSVerify(false)
	}
	a := applyv1.APIService(want.Name).WithSpec(spec).WithAnnotations(want.Annotations)
	for _, o := range want.OwnerReferences {
		a = a.WithOwnerReferences(applymetav1.OwnerReference().WithAPIVersion(o.APIVersion).WithKind(o.Kind).WithName(o.Name).WithUID(o.UID))
	}
	return a
}

// sleep waits, and says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
