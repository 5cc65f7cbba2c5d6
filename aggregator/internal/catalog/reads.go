package catalog

import "slices"

// Reads says whether a GET or HEAD of a resource, which is a get, list or watch as verb
// says, is known to read and to do nothing else, so that it may be sent twice. Discovery
// must list the resource with that verb.
//
// Of subresources only status and scale are known. Any other may be one that connects,
// such as exec, a console or a proxy: their GETs do things, and discovery lists them
// with the verb get as it lists those that read.
func (d Document) Reads(resource, subresource, verb string) bool {
	if d.Discovery == nil || verb != "get" && verb != "list" && verb != "watch" {
		return false
	}
	for i := range d.Discovery.Resources {
		r := &d.Discovery.Resources[i]
		if r.Resource != resource {
			continue
		}
		switch subresource {
		case "":
			return slices.Contains(r.Verbs, verb)
		case "status", "scale":
			for j := range r.Subresources {
				if r.Subresources[j].Subresource == subresource {
					return slices.Contains(r.Subresources[j].Verbs, verb)
				}
			}
		}
		return false
	}
	return false
}
