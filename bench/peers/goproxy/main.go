// What one writes in Go instead: httputil.ReverseProxy behind a check of the SW1 signature, of URLs
// as swproxy's own signer makes them (one spelling; no signed headers, no signed body).
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm = "SW1-HMAC-SHA256"
	skew      = time.Minute
	week      = 7 * 24 * 3600
)

var errRefused = errors.New("refused")

type verifier struct{ app, secret string }

func digest(key, text string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return string(mac.Sum(nil))
}

// verify returns the destination that a request may go to.
func (v verifier) verify(r *http.Request) (*url.URL, error) {
	values := map[string]string{}
	var signed []string
	for _, pair := range strings.Split(r.URL.RawQuery, "&") {
		name, raw, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(raw)
		if _, twice := values[name]; err != nil || twice || !strings.HasPrefix(name, "X-Sw-") {
			return nil, errRefused
		}
		values[name] = value
		if name != "X-Sw-Signature" {
			signed = append(signed, pair)
		}
	}
	sort.Strings(signed)
	date := values["X-Sw-Date"]
	at, err := time.Parse("20060102T150405Z", date)
	expires, wrong := strconv.Atoi(values["X-Sw-Expires"])
	if err != nil || wrong != nil || expires < 1 || expires > week || len(signed) != 7 {
		return nil, errRefused
	}
	now := time.Now()
	day := date[:8]
	if at.After(now.Add(skew)) || !now.Before(at.Add(time.Duration(expires)*time.Second)) ||
		values["X-Sw-Algorithm"] != algorithm || values["X-Sw-Credential"] != v.app+"/"+day ||
		values["X-Sw-Body"] != "false" || values["X-Sw-SignedHeaders"] != "" {
		return nil, errRefused
	}
	text := r.Method + "\n" + r.URL.EscapedPath() + "\n" + strings.Join(signed, "&") + "\n\n\n\n"
	sum := sha256.Sum256([]byte(text))
	key := digest(algorithm+v.secret, day)
	expected := digest(key, algorithm+"\n"+date+"\n"+day+"\n"+hex.EncodeToString(sum[:]))
	given, err := hex.DecodeString(values["X-Sw-Signature"])
	if err != nil || !hmac.Equal(given, []byte(expected)) {
		return nil, errRefused
	}
	return url.Parse(values["X-Sw-Proxy"])
}

func main() {
	port := flag.String("port", "", "")
	caFile := flag.String("ca-file", "", "")
	app := flag.String("app", "", "")
	secret := flag.String("secret", "", "")
	authorization := flag.String("authorization", "", "")
	idle := flag.Int("idle-connections", 256, "")
	flag.Parse()

	authority, err := os.ReadFile(*caFile)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: roots},
			MaxIdleConnsPerHost: *idle,
			DisableCompression:  true,
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Host = "" // that of the destination, which the handler has put in place
			r.Out.Header.Set("Authorization", *authorization)
		},
	}
	check := verifier{*app, *secret}
	handler := func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		path := r.URL.Path
		target, err := check.verify(r)
		if err != nil {
			http.Error(w, "The signature does not match.", http.StatusForbidden)
			return
		}
		r.URL = target
		proxy.ServeHTTP(w, r)
		log.Println(r.RemoteAddr, r.Method, path, target.Host, target.Path, time.Since(began))
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+*port, http.HandlerFunc(handler)))
}
