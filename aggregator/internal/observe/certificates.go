package observe

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/printable"
)

const (
	// maxCertificates bounds those of a CA bundle, maxNames the names of one.
	maxCertificates, maxNames = 20, 20
	// maxKeyID bounds the identifier of a key, in bytes.
	maxKeyID = 32
)

// Certificates are those on the way to an extension server. They are as Read and
// ReadBundle return them.
type Certificates struct {
	Serving, FrontProxy *v1alpha1.Certificate
	CABundle            []v1alpha1.Certificate
	// ServingShown is when Serving was shown; zero for now.
	ServingShown time.Time
}

// at is c with the days that are left.
func (c Certificates) at(now time.Time) v1alpha1.Certificates {
	counted := func(certificate *v1alpha1.Certificate) *v1alpha1.Certificate {
		if certificate == nil {
			return nil
		}
		dated := *certificate
		dated.DaysLeft = int64(math.Floor(dated.NotAfter.Sub(now).Hours() / 24))
		return &dated
	}
	o := v1alpha1.Certificates{Serving: counted(c.Serving), FrontProxy: counted(c.FrontProxy)}
	for i := range c.CABundle {
		o.CABundle = append(o.CABundle, *counted(&c.CABundle[i]))
	}
	return o
}

// Read is what is worth knowing of a certificate, but for the days that are left; nil of
// nil.
func Read(c *x509.Certificate) *v1alpha1.Certificate {
	if c == nil {
		return nil
	}
	o := &v1alpha1.Certificate{
		Subject:        printable.Line(c.Subject.String(), maxName),
		Issuer:         printable.Line(c.Issuer.String(), maxName),
		NotBefore:      metav1.NewTime(c.NotBefore),
		NotAfter:       metav1.NewTime(c.NotAfter),
		KeyID:          keyID(c.SubjectKeyId),
		AuthorityKeyID: keyID(c.AuthorityKeyId),
	}
	if o.KeyID == "" { // it is optional; what stands in tells two keys apart as well
		sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		o.KeyID = keyID(sum[:20])
	}
	for _, name := range c.DNSNames[:min(len(c.DNSNames), maxNames)] {
		o.Names = append(o.Names, printable.Line(name, maxName))
	}
	for _, ip := range c.IPAddresses[:min(len(c.IPAddresses), maxNames)] {
		o.Names = append(o.Names, ip.String())
	}
	o.Names = o.Names[:min(len(o.Names), maxNames)]
	return o
}

func keyID(id []byte) string { return hex.EncodeToString(id[:min(len(id), maxKeyID)]) }

// ReadBundle reads the first certificates of a CA bundle, which is PEM.
func ReadBundle(bundle []byte) []v1alpha1.Certificate {
	var all []v1alpha1.Certificate
	for len(all) < maxCertificates {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, *Read(c))
		}
	}
	return all
}
