#!/bin/sh
# Makes ca.pem and server.pem, with which the demo's stand-in model speaks TLS on loopback.
#
# They are shipped ready-made, private key and all, because the demo may need nothing but the
# installed package, and neither Python's standard library nor every machine can make a certificate.
# The key in server.pem is therefore PUBLIC. That harms nobody: ca.pem is trusted by the demo's own
# swproxy and by nothing else, it is constrained to loopback names, and the key of the authority is
# deleted below, so that not even its maker can sign another certificate with it.
# Never add ca.pem to a system's or a browser's trust store, and use server.pem for nothing else.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
: > index
cat > ca.cnf <<'CONFIG'
[ca]
default_ca = demo
[demo]
database = index
new_certs_dir = .
policy = any
rand_serial = yes
default_md = sha256
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
nameConstraints = critical, permitted;DNS:localhost, permitted;IP:127.0.0.0/255.0.0.0
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
CONFIG

request() { # name, subject
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -keyout "$1.key" -out "$1.csr" -subj "$2"
}
sign() { # name, how
    name=$1
    shift
    openssl ca -config ca.cnf -batch -notext -keyfile ca.key "$@" \
        -startdate 20250101000000Z -enddate 21250101000000Z -in "$name.csr" -out "$name.crt"
}
request ca '/CN=swproxy demo, loopback only'
request server '/CN=localhost'
sign ca -selfsign -extensions authority
sign server -cert ca.crt -extensions server
rm ca.key
cp ca.crt "$here/ca.pem"
cat server.key server.crt > "$here/server.pem"
