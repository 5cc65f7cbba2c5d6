package console

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// soon is what the page must not exceed even here; what it took is logged, and is far less.
const soon = 30 * time.Second

// fleet is a cluster with good and bad.
func fleet(a *api) {
	const (
		missing     = `endpointslices for service/api in "quota" have no addresses with port name "https"`
		unreachable = "1 of 2 endpoints fail their probes: 10.244.2.31:6443; dial tcp 10.244.2.31:6443: connect: connection refused"
	)
	expiring := "the extension server's certificate expires at " + ago(-5*24*time.Hour)
	a.set("v1beta1.metrics.k8s.io", healthy("kube-system/metrics-server:443", "4.1ms", "18ms", "10.244.1.7:10250", "10.244.2.9:10250"))
	a.set("v1.packages.example.com", healthy("packages/registry:443", "9.8ms", "61ms", "10.244.1.12:8443", "10.244.2.13:8443", "10.244.3.3:8443"))
	a.set("v1alpha1.bulletin.example.com", with(healthy("bulletin/server:443", "2.2ms", "7.4ms", "10.244.1.21:6443"), object{
		"state": "Degraded", "reason": "ServingCertificateExpiring", "since": ago(40 * time.Minute), "message": expiring,
		"faults":       []object{{"code": "ANX406", "reason": "ServingCertificateExpiring", "message": expiring}},
		"certificates": object{"serving": certificate("server.bulletin.svc", 5), "caBundle": []object{certificate("annex-ca", 3200)}, "frontProxy": certificate("front-proxy-client", 301)},
	}))
	a.set("v1beta1.external.metrics.k8s.io", with(healthy("keda/metrics-apiserver:443", "21ms", "240ms", "10.244.1.30:6443", "10.244.2.31:6443"), object{
		"state": "Degraded", "reason": "EndpointUnreachable", "since": ago(3 * time.Minute), "message": unreachable, "endpointSummary": "1/2", "errorRate": "1.4%",
		"endpoints": []object{endpoint("10.244.1.30:6443", "Healthy", "21ms", "240ms", "1.4%"), endpoint("10.244.2.31:6443", "Unreachable", "21ms", "240ms", "100%")},
		"faults":    []object{{"code": "ANX206", "reason": "EndpointUnreachable", "message": unreachable}},
		"views":     []object{{"server": "control-1:6443", "available": "True"}, {"server": "control-2:6443", "available": "False", "reason": "FailedDiscoveryCheck", "since": ago(2 * time.Minute)}},
	}))
	a.set("v1.quota.example.com", with(healthy("quota/api:443", "3ms", "9ms", "10.244.3.40:8443"), object{
		"state": "Unavailable", "reason": "MissingEndpoints", "since": ago(9 * time.Minute), "message": missing,
		"endpointSummary": "0/0", "endpoints": []object{}, "latency": nil, "errorRate": "",
		"faults":    []object{{"code": "ANX201", "reason": "MissingEndpoints", "message": missing}},
		"discovery": object{"freshness": "Stale", "fetched": ago(9 * time.Minute), "bytes": 912, "resources": 2, "problem": "there is no address to ask"},
		"affected":  object{"namespaces": []string{"team-blue"}, "namespaceCount": 1, "controllers": []string{"garbage collector", "resource quota"}},
		"views":     []object{{"server": "control-1:6443", "available": "False", "reason": "MissingEndpoints"}},
	}))
}

func TestADeadReplicaIsShown(t *testing.T) {
	a := newAPI(t, false)
	const name = "v1.packages.example.com"
	before := healthy("packages/registry:443", "9.8ms", "61ms", "10.244.1.12:8443", "10.244.2.13:8443")
	a.set(name, before)
	p := open(t, a.kubeconfig(t))
	p.await("the healthy row", rowHas(name, "Healthy")+" && "+rowHas(name, "2/2"))
	p.await("a live watch", `document.querySelector(".connection").innerText === "live"`)

	begin := time.Now()
	a.set(name, with(before, object{
		"state": "Degraded", "reason": "EndpointUnreachable", "since": ago(0), "endpointSummary": "1/2",
		"endpoints": []object{endpoint("10.244.1.12:8443", "Healthy", "9.8ms", "61ms", "0%"), endpoint("10.244.2.13:8443", "Unreachable", "9.8ms", "61ms", "100%")},
	}))
	p.await("the dead replica", rowHas(name, "Degraded EndpointUnreachable")+" && "+rowHas(name, "1/2"))
	took := time.Since(begin)
	t.Logf("the page showed a dead replica after %v", took.Round(time.Millisecond))
	if took > soon {
		t.Errorf("it took %v", took)
	}
	p.await("the timeline", `document.querySelector(".timeline").innerText.includes("10.244.2.13:8443: Healthy → Unreachable")`)
	p.await("what a screen reader is told", `document.querySelector("[role=status][aria-live=polite]").textContent.includes("Healthy → Degraded")`)

	// What is gone, and what comes back, is shown too; so is that nothing is heard any more.
	a.set(name, before)
	p.await("the replica that is back", rowHas(name, "Healthy")+" && "+rowHas(name, "2/2"))
	a.CloseClientConnections()
	a.Close()
	p.await("that the API server is gone", `document.querySelector("[role=alert]")?.innerText.includes("Not connected") === true`)
	if rows := p.rows(); len(rows) != 1 {
		t.Errorf("without an API server the page shows %q", rows)
	}
}

func TestNothingThatIsSaidBecomesMarkup(t *testing.T) {
	a := newAPI(t, false)
	const markup = `<img src=x onerror="window.owned=1"><script>window.owned=1</script><b id=bold>bold</b>`
	const name = "v1.<img src=x onerror=window.owned=1>"
	hostile := with(healthy(markup, markup, markup, "10.0.0.1:1"), object{
		"state": "Unavailable", "reason": markup, "message": markup + "\x1b[31mred\u202eturned\u202c", "server": markup, "errorRate": markup, "endpointSummary": markup, "watchList": markup,
		"faults":       []object{{"code": "javascript:alert(1)", "reason": markup, "message": strings.Repeat("long ", 1<<16)}},
		"views":        []object{{"server": markup, "available": markup, "reason": markup}, {"server": markup + "2", "available": "False"}},
		"endpoints":    []object{with(endpoint("10.0.0.1:1", "Unreachable", markup, markup, markup), object{"address": markup, "pod": markup, "lastError": object{"message": markup, "time": "never"}})},
		"discovery":    object{"freshness": markup, "problem": markup, "warning": markup, "fetched": markup},
		"certificates": object{"serving": with(certificate("x", 3), object{"subject": markup, "issuer": markup, "names": []string{markup}, "notAfter": markup})},
		"affected":     object{"namespaces": []string{markup}, "namespaceCount": 2000000, "controllers": []string{markup}},
	})
	a.set(name, hostile)
	a.set("v1.empty", object{})
	a.set("__proto__", object{"state": "Odd", "faults": []object{{}}, "endpoints": []object{{"address": "a"}}})
	p := open(t, a.kubeconfig(t))
	p.await("three rows", `document.querySelectorAll("button.service").length === 3`)
	a.set(name, with(hostile, object{"reason": markup + "2"}))
	p.await("the change", `document.querySelector(".timeline").innerText.includes("for another reason")`)
	p.click(`button.service`)
	p.await("the details", `document.querySelector(".details") !== null`)
	if got := eval[string](p, `document.querySelector(".details .message").textContent`); !strings.Contains(got, `<b id=bold>`) || !strings.Contains(got, `\u001b[31mred\u202eturned`) {
		t.Errorf("the message is shown as %q", got)
	}
	if n := eval[int](p, `document.querySelectorAll("#app img, #app script, #app #bold, #app iframe, #app a[href^='javascript']").length`); n != 0 {
		t.Errorf("%d elements were made of text", n)
	}
	if eval[bool](p, `"owned" in window`) {
		t.Error("a script of an extension server ran")
	}
	if n := eval[int](p, `document.querySelector(".faults").textContent.length`); n > 5000 {
		t.Errorf("a message of %d characters is shown", n)
	}
	// The policy holds even where the page's own code would not.
	if got := eval[string](p, `(() => { try { document.createElement("div").innerHTML = "<b>x</b>"; return "made" } catch (e) { return e.name } })()`); got != "TypeError" {
		t.Errorf("markup from a string: %s", got)
	}
	p.forget("require-trusted-types-for", "TrustedHTML")
}

// forget drops the complaints that a test provoked.
func (p *tab) forget(about ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = slices.DeleteFunc(p.problems, func(s string) bool {
		return slices.ContainsFunc(about, func(a string) bool { return strings.Contains(s, a) })
	})
}

// The token is in the address until the page has it, and then with this tab alone.
func TestTheTokenIsTheTabs(t *testing.T) {
	a := newAPI(t, false)
	fleet(a)
	needBrowser(t)
	_, url := start(t, address, "console", "--kubeconfig", a.kubeconfig(t))
	page, token, _ := strings.Cut(url, "#token=")
	p := openPage(t, url)
	const rows = `document.querySelectorAll("button.service").length === 5`
	p.await("the rows", rows)
	if got := eval[string](p, `location.href + " " + document.cookie`); strings.Contains(got, token) || !strings.HasPrefix(got, page) {
		t.Errorf("the address and the cookies are %s", got)
	}
	p.do(chromedp.Navigate(page + "?again"))
	p.await("the page again", `location.search === "?again" && `+rows)

	stranger := openPage(t, page)
	stranger.await("what is missing", `document.body.innerText.includes("open the whole address that annex console printed")`)
	if rows := stranger.rows(); len(rows) > 0 {
		t.Errorf("without the token there are %q", rows)
	}
	eval[string](stranger, fmt.Sprintf(`location.hash = %q`, "token="+token))
	stranger.await("the rows", rows)
}

func TestTheKeyboardReachesEverything(t *testing.T) {
	a := newAPI(t, false)
	fleet(a)
	p := open(t, a.kubeconfig(t))
	p.await("the rows", `document.querySelectorAll("button.service").length === 5`)
	p.press(tabKey)
	if got := p.focused(); got != "skip" {
		t.Errorf("first in order is %s", got)
	}
	p.press(enter)
	p.await("the list", `document.activeElement.id === "services"`)
	p.press(tabKey)
	if got := p.focused(); got != "v1.quota.example.com" {
		t.Errorf("in the list the first is %s", got)
	}
	const second = "v1alpha1.bulletin.example.com"
	p.press(down)
	if got := p.focused(); got != second {
		t.Errorf("below it is %s", got)
	}
	p.press(enter)
	p.await("the details", `document.activeElement.id === "details-title"`)
	if got := eval[string](p, `document.querySelector(".details").innerText`); !strings.Contains(got, second) || !strings.Contains(got, "ANX406") || !strings.Contains(got, "5 days left") {
		t.Errorf("the details are %s", oneLine(got))
	}
	if got := eval[string](p, `location.hash`); got != "#"+second {
		t.Errorf("the address is %s", got)
	}
	p.press(escape)
	p.await("the row again", fmt.Sprintf(`document.activeElement.dataset.name === %q && document.querySelector(".details") === null`, second))

	// Each control has a name, and each picture words beside it.
	if got := eval[[]string](p, `[...document.querySelectorAll("button, input, a, [tabindex='0']")]
		.filter((e) => !(e.innerText?.trim() || e.getAttribute("aria-label") || e.labels?.[0]?.textContent.trim())).map((e) => e.outerHTML)`); len(got) > 0 {
		t.Errorf("without a name: %q", got)
	}
	if got := eval[int](p, `document.querySelectorAll("svg:not([aria-hidden=true])").length`); got != 0 {
		t.Errorf("%d drawings are read out", got)
	}
	if got := eval[[]string](p, `["main", "aside", "header", "footer", "[role=search]", "h1", "[role=status]"].filter((s) => document.querySelectorAll(s).length === 0)`); len(got) > 0 {
		t.Errorf("the page has no %q", got)
	}
	for _, row := range p.rows() {
		if !strings.Contains(row, "Healthy") && !strings.Contains(row, "Degraded") && !strings.Contains(row, "Unavailable") {
			t.Errorf("a state has no word: %s", row)
		}
	}
}

func TestAPhoneScrollsDownOnly(t *testing.T) {
	a := newAPI(t, false)
	fleet(a)
	a.set("v1."+strings.Repeat("long", 50)+".example.com", healthy("a-namespace-with-a-long-name/"+strings.Repeat("service", 8)+":443", "1ms", "2ms", "10.0.0.1:1"))
	p := open(t, a.kubeconfig(t))
	p.await("the rows", `document.querySelectorAll("button.service").length === 6`)
	for _, width := range []int64{320, 390} {
		p.size(width, 740)
		for _, name := range []string{"", "v1beta1.external.metrics.k8s.io"} {
			if name != "" {
				p.click(fmt.Sprintf(`[data-name=%q]`, name))
				p.await("the details", `document.querySelector(".details") !== null`)
			}
			if got := eval[[]string](p, `document.scrollingElement.scrollWidth <= innerWidth ? [] :
				[...document.querySelectorAll("#app *")].filter((e) => e.getBoundingClientRect().right > innerWidth && !e.closest(".wide, pre")).map((e) => e.tagName + "." + e.getAttribute("class"))`); len(got) > 0 {
				t.Errorf("at %d pixels, details of %q: wider are %q", width, name, got)
			}
			if name != "" {
				p.press(escape)
				p.await("no details", `document.querySelector(".details") === null`)
			}
		}
	}
}

func TestTwoThousandAPIServices(t *testing.T) {
	a := newAPI(t, false)
	const many = 2000
	a.mu.Lock()
	for i := range many {
		name := fmt.Sprintf("v1.group-%04d.example.com", i)
		status := healthy(fmt.Sprintf("ns-%d/svc:443", i), "3ms", "9ms", "10.0.0.1:443", "10.0.0.2:443")
		if i%400 == 399 {
			status = with(status, object{"state": "Unavailable", "reason": "FailedDiscoveryCheck"})
		}
		a.objects[name] = object{"metadata": object{"name": name, "resourceVersion": "1"}, "status": status}
	}
	a.mu.Unlock()
	begin := time.Now()
	p := open(t, a.kubeconfig(t))
	p.await("the first rows", `document.querySelectorAll("button.service").length === 50`)
	t.Logf("the page showed %d APIServices after %v", many, time.Since(begin).Round(time.Millisecond))
	rows := p.rows()
	for i, row := range rows[:6] {
		if strings.Contains(row, "Unavailable") != (i < 5) {
			t.Errorf("row %d is %s", i, row)
		}
	}
	p.await("the counts", `document.querySelector(".counts").innerText.replace(/\s+/g, " ").startsWith("5 Unavailable 0 Degraded 0 Unknown 1995 Healthy")`)
	const search = chromedp.CSS("input[type=search]")
	p.do(chromedp.SendKeys(search, "group-1234"))
	p.await("the one that was asked for", `document.querySelectorAll("button.service").length === 1 && `+rowHas("v1.group-1234.example.com", "Healthy"))
	p.do(chromedp.SendKeys(search, strings.Repeat(kb.Backspace, len("group-1234"))))
	p.await("all again", `document.querySelectorAll("button.service").length === 50`)
	p.click(`.count.is-Unavailable`)
	p.await("the state that was asked for", `document.querySelectorAll("button.service").length === 5`)
	p.click(`.count.is-Unavailable`)
	p.click(`.more`)
	p.await("more rows", `document.querySelectorAll("button.service").length === 150`)

	// A storm of events is shown in the end, and the page answers meanwhile.
	begin = time.Now()
	for i := range many {
		a.set(fmt.Sprintf("v1.group-%04d.example.com", i), with(healthy("ns/svc:443", "5ms", "99ms", "10.0.0.1:443"), object{"state": "Degraded", "reason": "Storm"}))
	}
	p.await("the storm", `document.querySelector(".counts").innerText.replace(/\s+/g, " ").includes("2000 Degraded")`)
	t.Logf("the page showed %d events after %v", many, time.Since(begin).Round(time.Millisecond))
	if n := eval[int](p, `document.querySelectorAll(".timeline li").length`); n != 25 {
		t.Errorf("the timeline shows %d lines", n)
	}
}

func TestAKubeAPIServerWithoutAnnex(t *testing.T) {
	a := newAPI(t, true)
	of := func(name, available, reason string) object {
		return object{
			"metadata": object{"name": name},
			"spec":     object{"group": "x", "version": "v1", "service": object{"namespace": "ns", "name": "svc"}},
			"status":   object{"conditions": []object{{"type": "Available", "status": available, "reason": reason, "message": "why", "lastTransitionTime": ago(time.Minute)}}},
		}
	}
	a.put(of("v1.good", "True", "Passed"))
	a.put(of("v1.bad", "False", "FailedDiscoveryCheck"))
	a.put(object{"metadata": object{"name": "v1.apps"}, "spec": object{"group": "apps", "version": "v1"}})
	p := open(t, a.kubeconfig(t))
	p.await("the rows", `document.querySelectorAll("button.service").length === 2`)
	p.await("that less is known", `document.querySelector(".notice").innerText.includes("does not serve aggregation.annex.dev")`)
	p.await("the bad one", rowHas("v1.bad", "Unavailable FailedDiscoveryCheck"))
	a.put(of("v1.good", "False", "MissingEndpoints"))
	p.await("the change", rowHas("v1.good", "Unavailable MissingEndpoints"))
}

// What was wrong and is well again is told by Events: the page was not there to see it.
func TestWhatHappenedBeforeThePageWasOpened(t *testing.T) {
	a := newAPI(t, false)
	const well, bad, markup = "v1.packages.example.com", "v1.quota.example.com", `<img src=x onerror="window.owned=1">`
	a.set(well, healthy("packages/registry:443", "9.8ms", "61ms", "10.244.1.12:8443"))
	a.set(bad, with(healthy("quota/api:443", "3ms", "9ms"), object{"state": "Unavailable", "reason": "MissingEndpoints", "message": "none", "since": ago(9 * time.Minute)}))
	for name, e := range map[string]object{
		well: {"message": "APIService is available: all checks passed", "reason": "Passed", "lastTimestamp": ago(20 * time.Minute)},
		bad:  {"message": "APIService is unavailable: " + markup, "reason": "MissingEndpoints", "lastTimestamp": ago(9 * time.Minute), "count": 2},
	} {
		a.events = append(a.events, with(e, object{"involvedObject": object{"kind": "APIService", "name": name}, "source": object{"component": "annex-aggregation"}}))
	}
	p := open(t, a.kubeconfig(t))
	p.await("the Events", `document.querySelectorAll(".timeline li").length === 2 && document.querySelector(".timeline").innerText.includes("became Healthy")`)
	lines := eval[[]string](p, `[...document.querySelectorAll(".timeline li")].map((e) => e.innerText)`)
	if !strings.Contains(lines[0], bad+" became Unavailable, for the 2nd time") || !strings.Contains(lines[0], markup) || !strings.Contains(lines[1], well+" became Healthy") {
		t.Errorf("the timeline is %q", lines)
	}
	if eval[bool](p, `"owned" in window`) {
		t.Error("a script of an Event ran")
	}
}

// Ages are told by the API server's clock, whatever this machine's says.
func TestAClockThatIsWrongByADay(t *testing.T) {
	const day = 24 * time.Hour
	for ahead, said := range map[time.Duration]string{day: "24h behind the API server's", -day: "24h ahead of the API server's"} {
		a := newAPI(t, false)
		a.ahead = ahead
		const name = "v1.packages.example.com"
		a.set(name, with(healthy("packages/registry:443", "9.8ms", "61ms", "10.244.1.12:8443"), object{"state": "Degraded", "reason": "DiscoveryStale", "since": ago(10*time.Minute - ahead)}))
		p := open(t, a.kubeconfig(t))
		p.await("the row", rowHas(name, "Degraded"))
		p.await("what is said of the clocks", fmt.Sprintf(`document.querySelector("header .notice")?.innerText.includes(%q) === true`, said))
		p.click(`[data-name="` + name + `"]`)
		p.await("the age", `/for 1[01]m/.test(document.querySelector(".details")?.innerText ?? "")`)
	}
}

func TestDarkAndLight(t *testing.T) {
	a := newAPI(t, false)
	fleet(a)
	p := open(t, a.kubeconfig(t))
	p.await("the rows", `document.querySelectorAll("button.service").length === 5`)
	backgrounds := map[string]bool{}
	for _, scheme := range []string{"light", "dark"} {
		p.colours(scheme)
		backgrounds[eval[string](p, `getComputedStyle(document.body).backgroundColor`)] = true
		// Text can be read: at least 4.5 to 1.
		if got := eval[[]string](p, contrast); len(got) > 0 {
			t.Errorf("%s: hard to read are %q", scheme, got)
		}
	}
	if len(backgrounds) != 2 {
		t.Errorf("dark and light look alike: %v", backgrounds)
	}
}

// contrast lists text whose colour is too near to that of its background.
const contrast = `(() => {
	const light = (c) => {
		const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const rgb = (s) => s.match(/[\d.]+/g).map(Number);
	const behind = (e) => {
		for (; e; e = e.parentElement) {
			const c = rgb(getComputedStyle(e).backgroundColor);
			if (c.length < 4 || c[3] > 0) return c.slice(0, 3);
		}
		return [255, 255, 255];
	};
	const bad = new Set();
	for (const e of document.querySelectorAll("#app *")) {
		if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || e.closest("svg")) continue;
		const [a, b] = [light(rgb(getComputedStyle(e).color).slice(0, 3)), light(behind(e))].sort((x, y) => y - x);
		if ((a + 0.05) / (b + 0.05) < 4.5) bad.add(e.tagName + "." + e.className + ": " + ((a + 0.05) / (b + 0.05)).toFixed(2));
	}
	return [...bad];
})()`
