package proxy

// Endings are the names of all ways in which an attempt can end without an answer.
func Endings() []string {
	names := make([]string, len(endings))
	for i, row := range endings {
		names[i] = row.name
	}
	return names
}
