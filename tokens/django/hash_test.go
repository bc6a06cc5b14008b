// SPDX-License-Identifier: MIT

package django

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type vector struct {
	Name, Algorithm, Secret, Encoded string
}

// vectors returns hashes that Django made (testdata/make_vectors.py).
func vectors(tb testing.TB) []vector {
	tb.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	require.NoError(tb, err)
	var file struct{ Vectors []vector }
	require.NoError(tb, json.Unmarshal(b, &file))
	require.NotEmpty(tb, file.Vectors)
	return file.Vectors
}

func TestVerify_DjangoHashes(t *testing.T) {
	seen := map[string]int{}
	for _, v := range vectors(t) {
		t.Run(v.Algorithm+"/"+v.Name, func(t *testing.T) {
			if testing.Short() && v.Name == "default" {
				t.Skip("the costs of a live installation")
			}
			algorithm, err := Identify(v.Encoded)
			require.NoError(t, err)
			require.Equal(t, v.Algorithm, algorithm)

			ok, err := Verify(v.Encoded, v.Secret)
			require.NoError(t, err)
			require.True(t, ok)
			if v.Name == "default" {
				return // one slow check per algorithm is enough
			}
			for _, wrong := range []string{
				"", "\x00", v.Secret + "\x00", "\x00" + v.Secret, "x" + v.Secret, v.Secret[1:], v.Encoded,
				v.Secret + "\x00" + v.Secret, // equal to the secret under the cyclic key of bcrypt
			} {
				ok, err = Verify(v.Encoded, wrong)
				require.NoError(t, err)
				require.False(t, ok, "%q", wrong)
			}
		})
		seen[v.Algorithm]++
	}
	require.Len(t, seen, len(parsers), "an algorithm without a vector")
}

func TestBCrypt_IgnoresBytesAfter72(t *testing.T) {
	for _, v := range vectors(t) {
		if v.Name != "73 bytes" {
			continue
		}
		for password, plain := range map[string]bool{v.Secret[:72]: true, v.Secret + "more": true, v.Secret[:71]: false} {
			ok, err := Verify(v.Encoded, password)
			require.NoError(t, err)
			require.Equal(t, plain && v.Algorithm == BCrypt, ok, "%s, %d bytes", v.Algorithm, len(password))
		}
	}
}

func TestVerify_RefusesChangedHash(t *testing.T) {
	for _, v := range vectors(t) {
		if v.Name != "short" {
			continue
		}
		// Changes a letter in the middle, because the last one may hold unused bits.
		i := len(v.Encoded) - 10
		letter := byte('A')
		if v.Encoded[i] == letter {
			letter = 'B'
		}
		changed := v.Encoded[:i] + string(letter) + v.Encoded[i+1:]
		ok, err := Verify(changed, v.Secret)
		require.NoError(t, err)
		require.False(t, ok, v.Algorithm)
	}
}

func TestIdentify_RefusesInvalidHashes(t *testing.T) {
	const (
		sum256 = "5sBtpiWTVH1kYhODB/4hfYwhaLb68fOJ55LZKlQA4zc="
		sum1   = "zHDKri8BYdhUqmDIB58hxs/KdQA="
		salt   = "c29tZXNhbHQ"
		sumA   = "CPzBVYdM2T2YuhyTqavYiwXO5aTF3MRW8OBpe3kDTPI"
		sumB   = "bN.QpioGi5f7SVDH63B0OeTPtUFwFdHAhwZh4hk1iOOPAqd1VXhWa"
	)
	for name, tc := range map[string]struct {
		encoded, algorithm string
		want               error
	}{
		"nothing":                     {"", "", ErrNotHash},
		"a secret":                    {"kT3nW8vQ1xZ5bR7mD2fH9jL4pS6yC0aE", "", ErrNotHash},
		"a secret with a dollar":      {"kT3n$W8vQ", "", ErrNotHash},
		"an unusable password":        {"!xyz", "", ErrNotHash},
		"unknown algorithm":           {"sha512$1$a$b", "", ErrNotHash},
		"name in capitals":            {"PBKDF2_SHA256$1$a$" + sum256, "", ErrNotHash},
		"space before":                {" pbkdf2_sha256$1$a$" + sum256, "", ErrNotHash},
		"md5":                         {"md5$salt$5f4dcc3b5aa765d61d8327deb882cf99", "md5", ErrUnsupported},
		"unsalted md5":                {"5f4dcc3b5aa765d61d8327deb882cf99", "unsalted_md5", ErrUnsupported},
		"unsalted sha1":               {"sha1$$5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8", "sha1", ErrUnsupported},
		"scrypt":                      {"scrypt$salt$16384$8$5$aGFzaA==", "scrypt", ErrUnsupported},
		"too long":                    {"pbkdf2_sha256$1$a$" + strings.Repeat("A", maxEncoded), PBKDF2SHA256, ErrMalformed},
		"pbkdf2 alone":                {"pbkdf2_sha256$", PBKDF2SHA256, ErrMalformed},
		"pbkdf2 without hash":         {"pbkdf2_sha256$1$a", PBKDF2SHA256, ErrMalformed},
		"pbkdf2 with more":            {"pbkdf2_sha256$1$a$" + sum256 + "$b", PBKDF2SHA256, ErrMalformed},
		"pbkdf2 no iterations":        {"pbkdf2_sha256$$a$" + sum256, PBKDF2SHA256, ErrMalformed},
		"pbkdf2 zero iterations":      {"pbkdf2_sha256$0$a$" + sum256, PBKDF2SHA256, ErrMalformed},
		"pbkdf2 leading zero":         {"pbkdf2_sha256$01$a$" + sum256, PBKDF2SHA256, ErrMalformed},
		"pbkdf2 negative":             {"pbkdf2_sha256$-1$a$" + sum256, PBKDF2SHA256, ErrMalformed},
		"pbkdf2 plus":                 {"pbkdf2_sha256$+1$a$" + sum256, PBKDF2SHA256, ErrMalformed},
		"pbkdf2 underscore":           {"pbkdf2_sha256$1_0$a$" + sum256, PBKDF2SHA256, ErrMalformed},
		"pbkdf2 one too many":         {"pbkdf2_sha256$10000001$a$" + sum256, PBKDF2SHA256, ErrTooCostly},
		"pbkdf2 more than 64 bits":    {"pbkdf2_sha256$18446744073709551617$a$" + sum256, PBKDF2SHA256, ErrTooCostly},
		"pbkdf2 no salt":              {"pbkdf2_sha256$1$$" + sum256, PBKDF2SHA256, ErrMalformed},
		"pbkdf2 long salt":            {"pbkdf2_sha256$1$" + strings.Repeat("a", maxSalt+1) + "$" + sum256, PBKDF2SHA256, ErrMalformed},
		"pbkdf2 no padding":           {"pbkdf2_sha256$1$a$" + strings.TrimSuffix(sum256, "="), PBKDF2SHA256, ErrMalformed},
		"pbkdf2 newline in hash":      {"pbkdf2_sha256$1$a$" + sum256 + "\n", PBKDF2SHA256, ErrMalformed},
		"pbkdf2 loose bits":           {"pbkdf2_sha256$1$a$" + strings.TrimSuffix(sum256, "c=") + "d=", PBKDF2SHA256, ErrMalformed},
		"pbkdf2 short hash":           {"pbkdf2_sha256$1$a$" + sum1, PBKDF2SHA256, ErrMalformed},
		"pbkdf2 sha1 long hash":       {"pbkdf2_sha1$1$a$" + sum256, PBKDF2SHA1, ErrMalformed},
		"pbkdf2 empty hash":           {"pbkdf2_sha256$1$a$", PBKDF2SHA256, ErrMalformed},
		"argon2 alone":                {"argon2$", Argon2, ErrMalformed},
		"argon2d":                     {"argon2$argon2d$v=19$m=64,t=1,p=1$" + salt + "$" + sumA, Argon2, ErrUnsupported},
		"argon2 version 16":           {"argon2$argon2id$v=16$m=64,t=1,p=1$" + salt + "$" + sumA, Argon2, ErrUnsupported},
		"argon2 without version":      {"argon2$argon2id$m=64,t=1,p=1$" + salt + "$" + sumA, Argon2, ErrUnsupported},
		"argon2 without hash":         {"argon2$argon2id$v=19$m=64,t=1,p=1$" + salt, Argon2, ErrMalformed},
		"argon2 other order":          {"argon2$argon2id$v=19$t=1,m=64,p=1$" + salt + "$" + sumA, Argon2, ErrMalformed},
		"argon2 with a key id":        {"argon2$argon2id$v=19$m=64,t=1,p=1,keyid=AA$" + salt + "$" + sumA, Argon2, ErrMalformed},
		"argon2 no passes":            {"argon2$argon2id$v=19$m=64,t=0,p=1$" + salt + "$" + sumA, Argon2, ErrMalformed},
		"argon2 no lanes":             {"argon2$argon2id$v=19$m=64,t=1,p=0$" + salt + "$" + sumA, Argon2, ErrMalformed},
		"argon2 no memory":            {"argon2$argon2id$v=19$m=0,t=1,p=1$" + salt + "$" + sumA, Argon2, ErrMalformed},
		"argon2 memory under lanes":   {"argon2$argon2id$v=19$m=15,t=1,p=2$" + salt + "$" + sumA, Argon2, ErrMalformed},
		"argon2 memory":               {"argon2$argon2id$v=19$m=262145,t=1,p=1$" + salt + "$" + sumA, Argon2, ErrTooCostly},
		"argon2 memory over 32 bits":  {"argon2$argon2id$v=19$m=4294967360,t=1,p=1$" + salt + "$" + sumA, Argon2, ErrTooCostly},
		"argon2 passes":               {"argon2$argon2id$v=19$m=262144,t=17,p=1$" + salt + "$" + sumA, Argon2, ErrTooCostly},
		"argon2 passes over 32 bits":  {"argon2$argon2id$v=19$m=64,t=4294967297,p=1$" + salt + "$" + sumA, Argon2, ErrTooCostly},
		"argon2 lanes":                {"argon2$argon2id$v=19$m=1024,t=1,p=17$" + salt + "$" + sumA, Argon2, ErrTooCostly},
		"argon2 lanes over a byte":    {"argon2$argon2id$v=19$m=65536,t=1,p=257$" + salt + "$" + sumA, Argon2, ErrTooCostly},
		"argon2 short salt":           {"argon2$argon2id$v=19$m=64,t=1,p=1$c29tZQ$" + sumA, Argon2, ErrMalformed},
		"argon2 long salt":            {"argon2$argon2id$v=19$m=64,t=1,p=1$" + strings.Repeat("AAAA", 22) + "$" + sumA, Argon2, ErrMalformed},
		"argon2 short hash":           {"argon2$argon2id$v=19$m=64,t=1,p=1$" + salt + "$AAAA", Argon2, ErrMalformed},
		"argon2 long hash":            {"argon2$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + strings.Repeat("AAAA", 22), Argon2, ErrMalformed},
		"argon2 padded":               {"argon2$argon2id$v=19$m=64,t=1,p=1$" + salt + "=$" + sumA, Argon2, ErrMalformed},
		"bcrypt alone":                {"bcrypt$", BCrypt, ErrMalformed},
		"bcrypt without second $":     {"bcrypt$2b$04$" + sumB, BCrypt, ErrMalformed},
		"bcrypt 2x":                   {"bcrypt$$2x$04$" + sumB, BCrypt, ErrUnsupported},
		"bcrypt without minor":        {"bcrypt$$2$04$" + sumB, BCrypt, ErrMalformed},
		"bcrypt cost 3":               {"bcrypt$$2b$03$" + sumB, BCrypt, ErrMalformed},
		"bcrypt cost 17":              {"bcrypt$$2b$17$" + sumB, BCrypt, ErrTooCostly},
		"bcrypt cost 31":              {"bcrypt_sha256$$2b$31$" + sumB, BCryptSHA256, ErrTooCostly},
		"bcrypt cost 32":              {"bcrypt_sha256$$2b$32$" + sumB, BCryptSHA256, ErrMalformed},
		"bcrypt cost in hexadecimal":  {"bcrypt$$2b$0a$" + sumB, BCrypt, ErrMalformed},
		"bcrypt cost with a sign":     {"bcrypt$$2b$+4$" + sumB, BCrypt, ErrMalformed},
		"bcrypt short":                {"bcrypt$$2b$04$" + sumB[1:], BCrypt, ErrMalformed},
		"bcrypt long":                 {"bcrypt$$2b$04$" + sumB + "a", BCrypt, ErrMalformed},
		"bcrypt not in its alphabet":  {"bcrypt$$2b$04$" + sumB[:52] + "=", BCrypt, ErrMalformed},
		"bcrypt_sha256 hash of other": {"bcrypt_sha256$1$a$" + sum256, BCryptSHA256, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			algorithm, err := Identify(tc.encoded)
			require.ErrorIs(t, err, tc.want)
			require.Equal(t, tc.algorithm, algorithm)
			for _, part := range strings.FieldsFunc(tc.encoded, func(r rune) bool { return r == '$' }) {
				if len(part) > 7 && part != algorithm {
					require.NotContains(t, err.Error(), part)
				}
			}
			ok, err := Verify(tc.encoded, "s3cret")
			require.ErrorIs(t, err, tc.want)
			require.False(t, ok)
		})
	}
}

// Hashes at the limits are accepted. Identify does not compute them.
func TestIdentify_AcceptsLimits(t *testing.T) {
	for _, encoded := range []string{
		"pbkdf2_sha256$10000000$" + strings.Repeat("a", maxSalt) + "$5sBtpiWTVH1kYhODB/4hfYwhaLb68fOJ55LZKlQA4zc=",
		"argon2$argon2id$v=19$m=262144,t=16,p=16$c29tZXNhbHQ$CPzBVYdM2T2YuhyTqavYiwXO5aTF3MRW8OBpe3kDTPI",
		"bcrypt$$2b$16$bN.QpioGi5f7SVDH63B0OeTPtUFwFdHAhwZh4hk1iOOPAqd1VXhWa",
	} {
		_, err := Identify(encoded)
		require.NoError(t, err, encoded)
	}
}

func FuzzIdentify(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.Encoded)
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		algorithm, h, err := parse(encoded)
		if err == nil && (h == nil || parsers[algorithm] == nil || len(encoded) > maxEncoded) {
			t.Fatalf("%q: accepted as %q", encoded, algorithm)
		}
		if err != nil && h != nil {
			t.Fatalf("%q: refused and parsed", encoded)
		}
		switch h := h.(type) {
		case *pbkdf2Hash:
			require.Positive(t, h.iterations)
			require.LessOrEqual(t, h.iterations, maxIterations)
		case *argon2Hash:
			require.Positive(t, h.passes)
			require.GreaterOrEqual(t, h.memory, 8*h.lanes)
			require.LessOrEqual(t, h.memory, maxArgon2Memory)
			require.LessOrEqual(t, h.memory*h.passes, maxArgon2Work)
		}
	})
}

// BenchmarkVerify measures the default hashers of Django.
func BenchmarkVerify(b *testing.B) {
	for _, v := range vectors(b) {
		if v.Name != "default" {
			continue
		}
		b.Run(v.Algorithm, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := Verify(v.Encoded, v.Secret); err != nil || !ok {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
