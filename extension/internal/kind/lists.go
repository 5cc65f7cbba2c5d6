package kind

// Lists say by which fields the items of lists are told apart, as x-kubernetes-list-type
// and x-kubernetes-list-map-keys say it. It has the shape of an object. A nil one knows of no such list.
type Lists struct {
	// Keys are those of this place, where it is such a list. A Set has items that are told
	// apart by what they are.
	Keys []string
	Set  bool
	// Fields are below the fields of an object, Values below those that a map has, Items
	// below the items of a list.
	Fields        map[string]*Lists
	Values, Items *Lists
}

// Below gives what is known below a field.
func (l *Lists) Below(field string) *Lists {
	if l == nil {
		return nil
	}
	if below, ok := l.Fields[field]; ok {
		return below
	}
	return l.Values
}

// OfItems gives what is known below the items of a list.
func (l *Lists) OfItems() *Lists {
	if l == nil {
		return nil
	}
	return l.Items
}
