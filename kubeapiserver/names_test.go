package kubeapiserver_test

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// hostileNames are what the attacker's name server answers.
var hostileNames = map[string][]netip.Addr{
	"metadata.attack.test.":    {netip.MustParseAddr("169.254.169.254")},
	"metadata6.attack.test.":   {netip.MustParseAddr("fe80::a9fe:a9fe")},
	"mapped.attack.test.":      {netip.MustParseAddr("::ffff:169.254.169.254")},
	"multicast.attack.test.":   {netip.MustParseAddr("224.0.0.1")},
	"unspecified.attack.test.": {netip.MustParseAddr("0.0.0.0")},
	"mixed.attack.test.":       {netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.169.254")},
}

func resolverAt(address string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", address)
	}}
}

// answerNames serves until conn is closed.
func answerNames(conn net.PacketConn) {
	buffer := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		var query dnsmessage.Message
		if query.Unpack(buffer[:n]) != nil || len(query.Questions) != 1 {
			continue
		}
		if answer, err := answerName(query); err == nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

func answerName(query dnsmessage.Message) ([]byte, error) {
	question := query.Questions[0]
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, RecursionAvailable: true, RecursionDesired: true},
		Questions: query.Questions,
	}
	addresses, known := hostileNames[strings.ToLower(question.Name.String())]
	if !known {
		answer.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addresses {
		header := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, Type: question.Type}
		switch {
		case a.Is4() && question.Type == dnsmessage.TypeA:
			answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case !a.Is4() && question.Type == dnsmessage.TypeAAAA:
			answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return answer.Pack()
}
