package main

import (
	"crypto/tls"
	"fmt"
	"net/http"

	"k8s.io/client-go/util/cert"
)

// startExtensionServer serves example.com/v1 on loopback until stop is called, and
// returns its address and CA.
func startExtensionServer() (address string, ca []byte, stop func(), err error) {
	ca, key, err := cert.GenerateSelfSignedCertKey("greetings.demo.svc", nil, nil)
	if err != nil {
		return "", nil, nil, err
	}
	pair, err := tls.X509KeyPair(ca, key)
	if err != nil {
		return "", nil, nil, err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	if err != nil {
		return "", nil, nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/apis/example.com/v1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"example.com/v1","resources":[
			{"name":"greetings","singularName":"greeting","namespaced":false,"kind":"Greeting","verbs":["list"]}]}`)
	})
	mux.HandleFunc("/apis/example.com/v1/greetings", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s\n", r.Header.Get("X-Remote-User"))
	})
	server := &http.Server{Handler: mux}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // ends with stop
	}()
	stop = func() {
		_ = server.Close()
		<-ended
	}
	return listener.Addr().String(), ca, stop, nil
}
