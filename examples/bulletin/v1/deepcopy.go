package v1

import "k8s.io/apimachinery/pkg/runtime"

// DeepCopyInto writes to out a copy that shares nothing with the spec.
func (s *NoticeSpec) DeepCopyInto(out *NoticeSpec) {
	*out = *s
	if s.Expires != nil {
		out.Expires = s.Expires.DeepCopy()
	}
}

// DeepCopyInto writes to out a copy that shares nothing with the notice.
func (n *Notice) DeepCopyInto(out *Notice) {
	*out = *n
	n.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	n.Spec.DeepCopyInto(&out.Spec)
}

// DeepCopy gives a copy that shares nothing with the notice; nil gives nil.
func (n *Notice) DeepCopy() *Notice {
	if n == nil {
		return nil
	}
	out := new(Notice)
	n.DeepCopyInto(out)
	return out
}

// DeepCopyObject is DeepCopy as a runtime.Object.
func (n *Notice) DeepCopyObject() runtime.Object {
	if n == nil {
		return nil
	}
	return n.DeepCopy()
}

// DeepCopy gives a copy that shares nothing with the list; nil gives nil.
func (l *NoticeList) DeepCopy() *NoticeList {
	if l == nil {
		return nil
	}
	out := &NoticeList{TypeMeta: l.TypeMeta}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	if l.Items != nil {
		out.Items = make([]Notice, len(l.Items))
		for i := range l.Items {
			l.Items[i].DeepCopyInto(&out.Items[i])
		}
	}
	return out
}

// DeepCopyObject is DeepCopy as a runtime.Object.
func (l *NoticeList) DeepCopyObject() runtime.Object {
	if l == nil {
		return nil
	}
	return l.DeepCopy()
}
