package up

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"text/tabwriter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// show prints how many APIServices are available, and the demo's resource.
func (o *Options) show(ctx context.Context, c *client) error {
	list, err := c.dynamic.Resource(apiServices).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list APIServices: %w", err)
	}
	n := 0
	var missing []string
	for i := range list.Items {
		if ok, why := available(&list.Items[i]); ok {
			n++
		} else {
			missing = append(missing, list.Items[i].GetName()+" ("+why+")")
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(o.IO.Err, "APIServices that are not available: %s\n", strings.Join(missing, ", "))
	}
	if o.Quiet {
		return nil
	}
	out, err := o.table(ctx, c)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.IO.Out, "\nkubectl get apiservices: %d of %d Available\n\n$ kubectl get notices --namespace %s\n%s", n, len(list.Items), demoNamespace, out)
	return nil
}

// table is kubectl's own output where there is a kubectl, and the same request otherwise.
func (o *Options) table(ctx context.Context, c *client) (string, error) {
	if kubectl, err := exec.LookPath("kubectl"); err == nil {
		path, _ := o.kubeconfig()
		out, err := exec.CommandContext(ctx, kubectl, "--kubeconfig", path, "--context", contextName, "get", notices.Resource, "--namespace", demoNamespace).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("kubectl get %s: %w: %s", notices.Resource, err, strings.TrimSpace(string(out)))
		}
		return string(out), nil
	}
	body, err := c.get(ctx, fmt.Sprintf("/apis/%s/%s/namespaces/%s/%s", notices.Group, notices.Version, demoNamespace, notices.Resource),
		"application/json;as=Table;g=meta.k8s.io;v=v1")
	if err != nil {
		return "", err
	}
	return renderTable(body)
}

// renderTable prints the columns that kubectl shows by default.
func renderTable(body []byte) (string, error) {
	var table metav1.Table
	if err := json.Unmarshal(body, &table); err != nil {
		return "", fmt.Errorf("decode the table: %w", err)
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 3, ' ', 0)
	row := func(cell func(int) string) {
		var cells []string
		for i, column := range table.ColumnDefinitions {
			if column.Priority == 0 {
				cells = append(cells, cell(i))
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	row(func(i int) string { return strings.ToUpper(table.ColumnDefinitions[i].Name) })
	for _, r := range table.Rows {
		row(func(i int) string {
			if i < len(r.Cells) {
				return fmt.Sprint(r.Cells[i])
			}
			return ""
		})
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	return b.String(), nil
}
