package serving

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DiscardAnnotation, on the Secret, has the next replica that looks make another CA and
// another certificate at once, because a key is known to somebody. Without it a Secret
// that was deleted gets the last chain back, as clients trust it.
const DiscardAnnotation = "extension.annex.dev/discard-certificate"

// secret keeps a chain in a Secret, by optimistic locking.
type secret struct {
	Secret
	loaded *corev1.Secret
}

func (s *secret) String() string { return "Secret " + s.Name }

func (s *secret) load(ctx context.Context) (map[string][]byte, error) {
	s.loaded = nil
	found, err := s.Client.Get(ctx, s.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, explain("get", s.Name, err)
	}
	s.loaded = found
	if _, ok := found.Annotations[DiscardAnnotation]; ok {
		return nil, errDiscarded
	}
	return found.Data, nil
}

func (s *secret) save(ctx context.Context, data map[string][]byte) error {
	if s.loaded == nil {
		_, err := s.Client.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: s.Name}, Data: data}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return errConflict
		}
		return explain("create", s.Name, err)
	}
	// Its labels and its type are those of whoever made it.
	changed := s.loaded.DeepCopy()
	if changed.Data == nil {
		changed.Data = map[string][]byte{}
	}
	for _, key := range keys {
		delete(changed.Data, key)
	}
	maps.Copy(changed.Data, data)
	delete(changed.Annotations, DiscardAnnotation)
	_, err := s.Client.Update(ctx, changed, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return errConflict
	}
	return explain("update", s.Name, err)
}

// explain says which right is missing, where it is one.
func explain(verb, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err):
		return permanent{fmt.Errorf("this server may not %s the Secret %s that its replicas share, see its Role: %w", verb, name, err)}
	}
	return fmt.Errorf("%s the Secret: %w", verb, err)
}
