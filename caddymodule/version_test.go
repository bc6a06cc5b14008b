// SPDX-License-Identifier: MIT

package caddymodule

import (
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/semver"
)

func TestBuild_String(t *testing.T) {
	caddyDep := &debug.Module{Path: caddyModule, Version: "v2.11.9"}
	next := strings.TrimSuffix(pseudoVersion("commit", "2026-11-28T19:47:33Z"), "20261128194733-commit") // such as 0.1.1-0.
	require.Positive(t, semver.Compare("v"+next+"1", "v"+Release))
	for name, c := range map[string]struct {
		info debug.BuildInfo
		want string
	}{
		"release build": {
			debug.BuildInfo{Main: debug.Module{Path: ownModule, Version: "v" + Release}, Settings: []debug.BuildSetting{
				{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-11-28T19:47:33Z"}, {Key: "vcs.modified", Value: "false"},
			}},
			Release + " (commit 0123456789abcdef, 2026-11-28)",
		},
		"another commit": {
			debug.BuildInfo{Main: debug.Module{Path: ownModule, Version: "v0.0.0-20261128194733-0123456789ab"}, Settings: []debug.BuildSetting{
				{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-11-28T19:47:33Z"}, {Key: "vcs.modified", Value: "false"},
			}},
			next + "20261128194733-0123456789ab (commit 0123456789abcdef, 2026-11-28)",
		},
		"changed files": {
			debug.BuildInfo{Main: debug.Module{Path: ownModule, Version: "(devel)"}, Settings: []debug.BuildSetting{
				{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-11-28T19:47:33Z"}, {Key: "vcs.modified", Value: "true"},
			}},
			next + "20261128194733-0123456789ab+dirty (commit 0123456789abcdef-dirty, 2026-11-28)",
		},
		"plugin at a commit": {
			debug.BuildInfo{Main: debug.Module{Path: "caddy"}, Deps: []*debug.Module{{Path: ownModule, Version: "v0.0.0-20261128194733-6d2f2bd722fe"}}},
			next + "20261128194733-6d2f2bd722fe (commit 6d2f2bd722fe, 2026-11-28)",
		},
		"plugin from a fork": {
			debug.BuildInfo{Main: debug.Module{Path: "caddy"}, Deps: []*debug.Module{{
				Path: ownModule, Version: "v" + Release, Replace: &debug.Module{Path: "example.org/fork", Version: "v0.0.0-20261128194733-6d2f2bd722fe"},
			}}},
			next + "20261128194733-6d2f2bd722fe (commit 6d2f2bd722fe, 2026-11-28)",
		},
		"plugin from a folder": {
			debug.BuildInfo{Main: debug.Module{Path: "caddy"}, Deps: []*debug.Module{{
				Path: ownModule, Version: "v" + Release, Replace: &debug.Module{Path: "../meet-gateway"},
			}}},
			Release + " (commit unknown, unknown)",
		},
		"plugin at a tag, in a repository of its own": {
			debug.BuildInfo{Main: debug.Module{Path: "caddy"}, Deps: []*debug.Module{{Path: ownModule, Version: "v" + Release}}, Settings: []debug.BuildSetting{
				{Key: "vcs.revision", Value: "another repository's"},
			}},
			Release + " (commit unknown, unknown)",
		},
		"nothing known": {debug.BuildInfo{}, Release + " (commit unknown, unknown)"},
	} {
		t.Run(name, func(t *testing.T) {
			c.info.Deps = append(c.info.Deps, caddyDep)
			got := buildOf(&c.info)
			require.Equal(t, c.want, got.String())
			require.Equal(t, "v2.11.9", got.Caddy)
		})
	}
}
