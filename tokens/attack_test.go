// SPDX-License-Identifier: MIT

package tokens

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

func pemOf(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func signingKey(t testing.TB, key any) *signing.Key {
	t.Helper()
	k, err := signing.Parse(pemOf(t, key))
	require.NoError(t, err)
	return k
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// forge signs any header and claims with the key of the gateway, as an attacker with a
// leaked secret would. Such a token can only be refused for its content.
func forge(a *Authority, header, claims string) string {
	unsigned := b64(header) + "." + b64(claims)
	mac := hmac.New(sha256.New, a.keys.First().Raw(vault.ForTokens))
	mac.Write([]byte(unsigned))
	return unsigned + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// withClaims forges a token with the usual header and the given claims.
func withClaims(a *Authority, kid, claims string) string {
	return forge(a, `{"alg":"HS256","kid":"`+kid+`","typ":"JWT"}`, claims)
}

func TestVerify_RefusesForgedTokens(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	withRSA, _ := testNode(t, server, func(o *Options) { o.SigningKeys = []*signing.Key{signingKey(t, rsaKey)} })
	app := testApp(t, a)
	good := testToken(t, a, app).Value
	_, err = a.Verify(t.Context(), good)
	require.NoError(t, err)
	fromRSA := testToken(t, withRSA, app).Value
	_, err = withRSA.Verify(t.Context(), fromRSA)
	require.NoError(t, err)

	part := strings.Split(good, ".")
	kid := a.signing.KeyID()
	var claims map[string]any
	body, err := base64.RawURLEncoding.DecodeString(part[1])
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(body, &claims))
	with := func(name string, value any) string {
		c := maps.Clone(claims)
		if c[name] = value; value == nil {
			delete(c, name)
		}
		b, err := json.Marshal(c)
		require.NoError(t, err)
		return forge(a, `{"alg":"HS256","kid":"`+kid+`","typ":"JWT"}`, string(b))
	}
	head := func(h string) string { return forge(a, h, string(body)) }
	now := time.Now().Unix()
	swapped := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(claims))
	swapped.Header["kid"] = withRSA.signing.KeyID()
	publicDER, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	require.NoError(t, err)
	rsToHS, err := swapped.SignedString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}))
	require.NoError(t, err)
	last := good[len(good)-1]
	trailing := good[:len(good)-1] + string(base64URL[strings.IndexByte(base64URL, last)^1]) // changes only the unused bits
	foreign := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": "lasuite-meet", "exp": now + 3600, "Scope": "rooms:list"})
	meets, err := foreign.SignedString([]byte("a key of Meet's own, which has no id"))
	require.NoError(t, err)

	for name, c := range map[string]struct {
		raw  string
		kind error
	}{
		"alg none":                   {b64(`{"alg":"none","typ":"JWT"}`) + "." + part[1] + ".", ErrTokenForeign},
		"alg none with our kid":      {b64(`{"alg":"none","kid":"`+kid+`"}`) + "." + part[1] + ".", ErrTokenForeign},
		"alg None":                   {head(`{"alg":"None","kid":"` + kid + `"}`), ErrTokenForeign},
		"alg hs256":                  {head(`{"alg":"hs256","kid":"` + kid + `"}`), ErrTokenForeign},
		"alg missing":                {head(`{"kid":"` + kid + `"}`), ErrTokenForeign},
		"alg twice":                  {b64(`{"alg":"HS256","alg":"none","kid":"`+kid+`"}`) + "." + part[1] + ".", ErrTokenForeign},
		"alg HS512 with our kid":     {head(`{"alg":"HS512","kid":"` + kid + `"}`), ErrTokenForeign},
		"alg RS256 with an HS kid":   {head(`{"alg":"RS256","kid":"` + kid + `"}`), ErrTokenInvalid},
		"RS256 key as HS256 secret":  {rsToHS, ErrTokenInvalid},
		"kid twice":                  {head(`{"alg":"HS256","kid":"` + kid + `","kid":"` + kid + `"}`), ErrTokenInvalid},
		"EXP for exp":                {withClaims(a, kid, strings.Replace(string(body), `"exp"`, `"EXP"`, 1)), ErrTokenInvalid},
		"Client_ID for client_id":    {withClaims(a, kid, strings.Replace(string(body), `"client_id"`, `"Client_ID"`, 1)), ErrTokenInvalid},
		"EXP beside exp":             {withClaims(a, kid, strings.Replace(string(body), `{`, `{"EXP":9999999999,`, 1)), ErrTokenInvalid},
		"exp twice":                  {withClaims(a, kid, strings.Replace(string(body), `{`, `{"exp":1,`, 1)), ErrTokenMalformed},
		"exp twice, one escaped":     {withClaims(a, kid, strings.Replace(string(body), `{`, `{"e\u0078p":9999999999,`, 1)), ErrTokenMalformed},
		"sub twice":                  {withClaims(a, kid, strings.Replace(string(body), `{`, `{"sub":"someone0",`, 1)), ErrTokenMalformed},
		"unknown kid":                {head(`{"alg":"HS256","kid":"00000000"}`), ErrTokenForeign},
		"kid as a path":              {head(`{"alg":"HS256","kid":"../../../../dev/null"}`), ErrTokenForeign},
		"kid as a query":             {head(`{"alg":"HS256","kid":"x' UNION SELECT 'k"}`), ErrTokenForeign},
		"kid as a list":              {head(`{"alg":"HS256","kid":["` + kid + `"]}`), ErrTokenForeign},
		"no kid":                     {head(`{"alg":"HS256"}`), ErrTokenForeign},
		"crit":                       {head(`{"alg":"HS256","kid":"` + kid + `","crit":["exp"]}`), ErrTokenInvalid},
		"jku":                        {head(`{"alg":"HS256","kid":"` + kid + `","jku":"https://evil.example/jwks"}`), ErrTokenInvalid},
		"jwk":                        {head(`{"alg":"HS256","kid":"` + kid + `","jwk":{"kty":"oct","k":"AAAA"}}`), ErrTokenInvalid},
		"x5u":                        {head(`{"alg":"HS256","kid":"` + kid + `","x5u":"https://evil.example/"}`), ErrTokenInvalid},
		"zip":                        {head(`{"alg":"HS256","kid":"` + kid + `","zip":"DEF"}`), ErrTokenInvalid},
		"b64 false":                  {head(`{"alg":"HS256","kid":"` + kid + `","b64":false}`), ErrTokenInvalid},
		"signature cut":              {good[:len(good)-3], ErrTokenInvalid},
		"signature missing":          {part[0] + "." + part[1] + ".", ErrTokenInvalid},
		"signature's trailing bits":  {trailing, ErrTokenMalformed},
		"signature padded":           {good + "=", ErrTokenMalformed},
		"signature of another token": {part[0] + "." + part[1] + "." + strings.Split(testToken(t, a, app).Value, ".")[2], ErrTokenInvalid},
		"payload exchanged":          {part[0] + "." + b64(strings.Replace(string(body), app.ID, strings.Repeat("0", 32), 1)) + "." + part[2], ErrTokenInvalid},
		"signed with another secret": {forge(otherNode(t), `{"alg":"HS256","kid":"`+kid+`","typ":"JWT"}`, string(body)), ErrTokenInvalid},
		"other installation":         {testToken(t, otherNode(t), testApp(t, otherNode(t))).Value, ErrTokenForeign},
		"token of Meet":              {meets, ErrTokenForeign},
		"never recorded":             {with("jti", vault.RandomID(vault.TokenID)), ErrTokenInvalid},
		"recorded, other claims":     {with("scope", "rooms:list rooms:delete"), ErrTokenInvalid},
		"another user":               {with("sub", "00000000"), ErrTokenInvalid},
		"no exp":                     {with("exp", nil), ErrTokenInvalid},
		"exp 0":                      {with("exp", 0), ErrTokenInvalid},
		"exp negative":               {with("exp", -1), ErrTokenInvalid},
		"exp too far":                {with("exp", now+31*365*24*3600), ErrTokenInvalid},
		"exp past":                   {with("exp", now), ErrTokenExpired},
		"exp as text":                {with("exp", "9999999999"), ErrTokenMalformed},
		"exp beyond all numbers":     {forge(a, `{"alg":"HS256","kid":"`+kid+`"}`, `{"exp":1e400}`), ErrTokenMalformed},
		"iat missing":                {with("iat", nil), ErrTokenInvalid},
		"iat in the future":          {with("iat", now+60), ErrTokenInvalid},
		"another issuer":             {with("iss", "lasuite-meet"), ErrTokenInvalid},
		"another audience":           {with("aud", "addons"), ErrTokenInvalid},
		"several audiences":          {with("aud", []string{"meet-clients", "x"}), ErrTokenMalformed},
		"not delegated":              {with("delegated", false), ErrTokenInvalid},
		"no client":                  {with("client_id", nil), ErrTokenInvalid},
		"claims are a list":          {forge(a, `{"alg":"HS256","kid":"`+kid+`"}`, `[]`), ErrTokenMalformed},
		"claims are null":            {forge(a, `{"alg":"HS256","kid":"`+kid+`"}`, `null`), ErrTokenInvalid},
		"four parts":                 {good + ".x", ErrTokenMalformed},
		"two parts":                  {part[0] + "." + part[1], ErrTokenMalformed},
		"only dots":                  {"..", ErrTokenMalformed},
		"empty":                      {"", ErrTokenMalformed},
		"space before":               {" " + good, ErrTokenMalformed},
		"line feed":                  {good + "\n", ErrTokenMalformed},
		"line feed inside":           {good[:20] + "\n" + good[20:], ErrTokenMalformed},
		"oversized":                  {good + strings.Repeat("A", MaxToken), ErrTokenMalformed},
		"a secret":                   {vault.NewSecret(SecretPrefix), ErrTokenMalformed},
		"a refresh token":            {family.NewToken(vault.RandomID(family.IDLength)), ErrTokenMalformed},
	} {
		for _, node := range []*Authority{a, withRSA} {
			for range 2 { // the second time with a filled cache
				id, err := node.Verify(t.Context(), c.raw)
				require.Nil(t, id, name)
				require.Error(t, err, name)
				require.NotContains(t, err.Error(), part[2], name)
				if node == a && name != "RS256 key as HS256 secret" || node == withRSA && name == "RS256 key as HS256 secret" {
					require.ErrorIs(t, err, c.kind, name)
				}
			}
		}
	}
	_, err = a.Verify(t.Context(), good)
	require.NoError(t, err)
	_, err = withRSA.Verify(t.Context(), good)
	require.NoError(t, err, "tokens signed with the secret stay valid after signing keys are introduced")
}

const base64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

var otherInstallation *Authority

// otherNode returns a gateway of another installation.
func otherNode(t *testing.T) *Authority {
	t.Helper()
	if otherInstallation == nil {
		otherInstallation, _ = testNode(t, miniredis.RunT(t), func(o *Options) { o.Secrets = [][]byte{[]byte("another-installation-0123456789abcdef")} })
		t.Cleanup(func() { otherInstallation = nil })
	}
	return otherInstallation
}

// A token is refused from the second it expires, also if it is cached.
func TestVerify_ExpiryIsCheckedOnEveryHit(t *testing.T) {
	c := newClock()
	a, _ := testNode(t, miniredis.RunT(t), func(o *Options) { o.Now = c.Now })
	tok := testToken(t, a, testApp(t, a))
	for range 2 {
		_, err := a.Verify(t.Context(), tok.Value)
		require.NoError(t, err)
	}
	c.advance(tok.Lifetime)
	_, err := a.Verify(t.Context(), tok.Value)
	require.ErrorIs(t, err, ErrTokenExpired)
}

// A cached value is read again after maxAge, even if no change is announced.
func TestVerify_CacheExpires(t *testing.T) {
	c := newClock()
	server := miniredis.RunT(t)
	a, _ := testNode(t, server, func(o *Options) { o.Now = c.Now })
	app := testApp(t, a)
	tok := testToken(t, a, app)
	_, err := a.Verify(t.Context(), tok.Value)
	require.NoError(t, err)
	server.Del(redisdb.KeyApplication(app.ID)) // without an announcement
	_, err = a.Verify(t.Context(), tok.Value)
	require.NoError(t, err)
	c.advance(maxAge + time.Second)
	_, err = a.Verify(t.Context(), tok.Value)
	require.ErrorIs(t, err, ErrTokenInvalid)
}

// SecretSigns lets every gateway publish the first signing key before one of them signs
// with it.
func TestSigningKeys_PublishedBeforeSigning(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	key := signingKey(t, private)
	m := miniredis.RunT(t)
	node := func(secretSigns bool) *Authority {
		a, _ := testNode(t, m, func(o *Options) { o.SigningKeys, o.SecretSigns = []*signing.Key{key}, secretSigns })
		return a
	}
	before, after := node(true), node(false)
	app := testApp(t, before)
	require.Equal(t, "HS256", before.Algorithm())
	require.Equal(t, "EdDSA", after.Algorithm())
	for _, a := range []*Authority{before, after} {
		require.Len(t, a.JWKS().Keys, 1)
		tok := testToken(t, a, app)
		for _, b := range []*Authority{before, after} {
			_, err := b.Verify(t.Context(), tok.Value)
			require.NoError(t, err)
		}
		for _, k := range a.Status(t.Context()).Keys {
			require.Equal(t, k.Algorithm == a.Algorithm(), k.Signs, k.Algorithm)
		}
	}
}

// The published key set lacks withdrawn keys, so that verifiers without access to the
// gateway refuse their tokens.
func TestJWKS_OmitsWithdrawnKeys(t *testing.T) {
	_, first, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	_, second, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	m := miniredis.RunT(t)
	node := func(keys ...any) *Authority {
		a, _ := testNode(t, m, func(o *Options) {
			for _, k := range keys {
				o.SigningKeys = append(o.SigningKeys, signingKey(t, k))
			}
		})
		return a
	}
	a, other := node(second, first), node(first, second)
	app := testApp(t, a)
	for _, n := range []*Authority{a, other} {
		require.Len(t, n.JWKS().Keys, 2)
	}
	require.NoError(t, a.RevokeKey(t.Context(), signingKey(t, first).ID()))
	tok, want := testToken(t, a, app), signingKey(t, second).ID()
	for _, n := range []*Authority{a, other} {
		require.Eventually(t, func() bool {
			_, err := n.Verify(t.Context(), tok.Value) // reads the installation record
			published := n.JWKS().Keys
			return err == nil && len(published) == 1 && published[0].KeyID == want
		}, 30*time.Second, 5*time.Millisecond)
	}
}

func TestSigningKeys(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for alg, key := range map[string]any{"ES256": ec, "EdDSA": ed} {
		a, _ := testNode(t, miniredis.RunT(t), func(o *Options) { o.SigningKeys = []*signing.Key{signingKey(t, key)} })
		require.Equal(t, alg, a.Algorithm())
		tok := testToken(t, a, testApp(t, a))
		_, err := a.Verify(t.Context(), tok.Value)
		require.NoError(t, err, alg)
		published, err := json.Marshal(a.JWKS())
		require.NoError(t, err)
		require.Contains(t, string(published), signingKey(t, key).ID())
		require.NotContains(t, string(published), `"d":`)
		require.NotContains(t, string(published), `"k":`)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	_, err = signing.Parse(pemOf(t, p384))
	require.Error(t, err)
	for _, bad := range [][]byte{nil, []byte("x"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})} {
		_, err = signing.Parse(bad)
		require.Error(t, err)
	}
}

func FuzzParseToken(f *testing.F) {
	kr := testKeyring(f, oldSecret)
	keys, err := signing.NewSet(kr, nil, false)
	require.NoError(f, err)
	core := &core{keys: kr, signing: keys, now: time.Now}
	a := &signer{core: core, issuer: "i", audience: "a"}
	f.Add(forge(&Authority{core: core}, `{"alg":"HS256","kid":"`+keys.KeyID()+`"}`, `{"iss":"i","aud":"a","iat":1,"exp":2}`))
	f.Add(b64(`{"alg":"none"}`) + ".e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		tok, err := a.parse(raw)
		if (tok == nil) == (err == nil) {
			t.Fatalf("%v, %v", tok, err)
		}
		if err != nil && Reason(err) == "" {
			t.Fatalf("no reason: %v", err)
		}
	})
}
