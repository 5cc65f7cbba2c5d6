package serving

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"
)

// chain is what is made and kept. It is not changed once it is made.
type chain struct {
	serving, ca pair
	// next is a CA that is in the bundle already and will sign.
	next *pair
	// previous is the certificate of a CA that signs no more since promoted, and is
	// in the bundle still.
	previous []byte
	promoted time.Time
}

// bundle has all CAs that clients must trust.
func (c *chain) bundle() []byte {
	all := [][]byte{c.ca.cert}
	if c.next != nil {
		all = append(all, c.next.cert)
	}
	return bytes.Join(append(all, c.previous), nil)
}

// hosts are the names and addresses that the serving certificate has.
func (c *chain) hosts() []string {
	hosts := slices.Clone(c.serving.leaf.DNSNames)
	for _, ip := range c.serving.leaf.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	slices.Sort(hosts)
	return hosts
}

// step is what has to be done with a chain.
type step int

const (
	keep     step = iota
	begin         // make a CA and a certificate
	promote       // let the next CA sign
	extend        // make a certificate with hosts that the present one lacks
	renew         // make a certificate before the present one ends
	announce      // make the next CA
	retire        // take the previous CA out of the bundle
)

func (s step) String() string {
	return [...]string{"nothing", "made a CA and a certificate", "the new CA signs", "made a certificate for more hosts", "renewed the certificate", "made a new CA", "took the old CA out of the bundle"}[s]
}

// due says what has to be done with a chain at the time now, and when to ask again.
func (o *Options) due(c *chain, now time.Time) (step, time.Time) {
	if c == nil || !now.Before(c.ca.leaf.NotAfter) {
		return begin, now
	}
	for _, host := range o.hosts() {
		if !slices.Contains(c.hosts(), host) {
			return extend, now
		}
	}
	change, at := announce, c.ca.renewal()
	switch {
	case c.next != nil:
		change, at = promote, c.next.made().Add(o.Overlap)
	case c.previous != nil:
		change, at = retire, c.promoted.Add(o.Overlap)
	}
	renewal := c.serving.renewal()
	switch {
	case !now.Before(at):
		return change, now
	case !now.Before(renewal):
		return renew, now
	case at.Before(renewal):
		return keep, at
	}
	return keep, renewal
}

// take does one step and gives the new chain.
func (o *Options) take(s step, c *chain, now time.Time) (*chain, error) {
	var next chain
	if c != nil {
		next = *c
	}
	hosts := o.hosts()
	var err error
	switch s {
	case begin:
		next = chain{}
		if next.ca, err = newCA(o.Name, now, o.CALife); err != nil {
			return nil, err
		}
	case promote:
		next.previous, next.promoted = c.ca.cert, now
		next.ca, next.next = *c.next, nil
	case extend:
		// A replica that wants other hosts keeps those that it has: they do not fight.
		all := append(o.hosts(), c.hosts()...)
		slices.Sort(all)
		if all = slices.Compact(all); len(all) <= maxHosts {
			hosts = all
		}
	case announce:
		ca, err := newCA(o.Name, now, o.CALife)
		if err != nil {
			return nil, err
		}
		next.next = &ca
		return &next, nil
	case retire:
		next.previous, next.promoted = nil, time.Time{}
		return &next, nil
	}
	if next.serving, err = newServing(o.Name, hosts, next.ca, now, o.Life); err != nil {
		return nil, err
	}
	return &next, nil
}

// The keys under which a chain is kept. Those of the certificate itself are the ones
// that other tools look for.
const (
	keyCert, keyKey     = "tls.crt", "tls.key"
	keyBundle           = "ca.crt"
	keyCA, keyCAKey     = "signing-ca.crt", "signing-ca.key"
	keyNext, keyNextKey = "next-ca.crt", "next-ca.key"
	keyPrevious         = "previous-ca.crt"
	keyPromoted         = "promoted"
)

// keys are all of them.
var keys = [...]string{keyCert, keyKey, keyBundle, keyCA, keyCAKey, keyNext, keyNextKey, keyPrevious, keyPromoted}

var errForeign = errors.New("it holds something that this server has not made: name another place, or empty it")

func (c *chain) encode() map[string][]byte {
	data := map[string][]byte{
		keyCert: c.serving.cert, keyKey: c.serving.key, keyBundle: c.bundle(), keyCA: c.ca.cert, keyCAKey: c.ca.key,
	}
	if c.next != nil {
		data[keyNext], data[keyNextKey] = c.next.cert, c.next.key
	}
	if c.previous != nil {
		data[keyPrevious], data[keyPromoted] = c.previous, []byte(c.promoted.UTC().Format(time.RFC3339Nano))
	}
	return data
}

// decode gives nil for nothing, errForeign for what is no chain, and another error for
// a chain that is broken.
func decode(data map[string][]byte) (*chain, error) {
	switch {
	case len(data) == 0:
		return nil, nil
	case data[keyCA] == nil:
		return nil, errForeign
	}
	var c chain
	var err error
	if c.ca, err = parsePair(data[keyCA], data[keyCAKey]); err != nil {
		return nil, fmt.Errorf("the CA: %w", err)
	}
	if c.serving, err = parsePair(data[keyCert], data[keyKey]); err != nil {
		return nil, fmt.Errorf("the serving certificate: %w", err)
	}
	if err := c.serving.leaf.CheckSignatureFrom(c.ca.leaf); err != nil {
		return nil, fmt.Errorf("the serving certificate is not of the CA: %w", err)
	}
	if data[keyNext] != nil {
		next, err := parsePair(data[keyNext], data[keyNextKey])
		if err != nil {
			return nil, fmt.Errorf("the next CA: %w", err)
		}
		c.next = &next
	}
	if data[keyPrevious] != nil {
		if _, err := parseCertificate(data[keyPrevious]); err != nil {
			return nil, fmt.Errorf("the previous CA: %w", err)
		}
		c.previous = data[keyPrevious]
		if c.promoted, err = time.Parse(time.RFC3339Nano, string(data[keyPromoted])); err != nil {
			return nil, fmt.Errorf("when the previous CA was replaced: %w", err)
		}
	}
	if data[keyBundle] == nil || !bytes.Equal(data[keyBundle], c.bundle()) {
		return nil, errors.New("the bundle is not that of its CAs")
	}
	return &c, nil
}
