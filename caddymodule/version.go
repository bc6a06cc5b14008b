// SPDX-License-Identifier: MIT

package caddymodule

import (
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/mod/module"
)

// Release is the gateway's version (Semantic Versioning). Tests compare packages,
// images, the chart and the changelog with it.
const Release = "0.1.0"

const (
	ownModule   = "github.com/meet-gateway/meet-gateway"
	caddyModule = "github.com/caddyserver/caddy/v2"
	unknown     = "unknown"
)

// Build describes a binary. Unknown values are "unknown".
type Build struct {
	// Version is [Release] if the release was built, such as 0.1.0. For another commit it is
	// a pseudo-version as Go's, such as 0.1.1-0.20261128194733-6d2f2bd722fe, with +dirty
	// appended if files were changed.
	Version string
	// Commit is the revision, with -dirty appended if files were changed.
	Commit string
	// Date is the time of the commit, in RFC 3339.
	Date string
	// Caddy is the version of Caddy, such as v2.11.9.
	Caddy string
	// Go is the version of Go, such as go1.26.0.
	Go string
}

// BuildInfo describes this binary.
func BuildInfo() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return buildOf(info)
}

// buildOf reads what Go stamps into a binary: the commit if it was built in this
// repository, and the module's version otherwise, which for an untagged commit contains
// its date and revision.
func buildOf(info *debug.BuildInfo) Build {
	b := Build{Version: Release, Commit: unknown, Date: unknown, Caddy: unknown, Go: info.GoVersion}
	for _, m := range info.Deps {
		switch m.Path {
		case ownModule:
			if m.Replace != nil {
				m = m.Replace
			}
			b.readPseudoVersion(m.Version)
		case caddyModule:
			b.Caddy = m.Version
		}
	}
	if info.Main.Path != ownModule {
		return b
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if revision := settings["vcs.revision"]; revision != "" {
		b.Commit, b.Date = revision, settings["vcs.time"]
		if info.Main.Version != "v"+Release {
			b.Version = pseudoVersion(b.Commit, b.Date)
		}
		if settings["vcs.modified"] == "true" {
			b.Version += "+dirty"
			b.Commit += "-dirty"
		}
	}
	return b
}

func (b *Build) readPseudoVersion(version string) {
	if !module.IsPseudoVersion(version) {
		return
	}
	if commit, err := module.PseudoVersionRev(version); err == nil {
		b.Commit = commit
	}
	if date, err := module.PseudoVersionTime(version); err == nil {
		b.Date = date.UTC().Format("2006-01-02T15:04:05Z")
	}
	b.Version = pseudoVersion(b.Commit, b.Date)
}

// pseudoVersion returns the version of a commit after Release. Go's own starts from the last
// tag, which a clone may lack.
func pseudoVersion(commit, date string) string {
	at, err := time.Parse(time.RFC3339, date)
	if err != nil {
		return Release
	}
	return strings.TrimPrefix(module.PseudoVersion("", "v"+Release, at, commit[:min(len(commit), 12)]), "v")
}

// String returns version, commit and day.
func (b Build) String() string {
	day, _, _ := strings.Cut(b.Date, "T")
	return b.Version + " (commit " + b.Commit + ", " + day + ")"
}
