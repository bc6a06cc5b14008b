// SPDX-License-Identifier: MIT

package caddymodule

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBuild_String(t *testing.T) {
	caddyDep := &debug.Module{Path: caddyModule, Version: "v2.11.9"}
	for name, c := range map[string]struct {
		info debug.BuildInfo
		want string
	}{
		"release build": {
			debug.BuildInfo{Main: debug.Module{Path: ownModule, Version: "v0.1.0"}, Settings: []debug.BuildSetting{
				{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-11-28T19:47:33Z"}, {Key: "vcs.modified", Value: "false"},
			}},
			Release + " (commit 0123456789abcdef, 2026-11-28)",
		},
		"changed files": {
			debug.BuildInfo{Main: debug.Module{Path: ownModule, Version: "(devel)"}, Settings: []debug.BuildSetting{
				{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-11-28T19:47:33Z"}, {Key: "vcs.modified", Value: "true"},
			}},
			Release + " (commit 0123456789abcdef-dirty, 2026-11-28)",
		},
		"plugin at a commit": {
			debug.BuildInfo{Main: debug.Module{Path: "caddy"}, Deps: []*debug.Module{{Path: ownModule, Version: "v0.0.0-20261128194733-6d2f2bd722fe"}}},
			Release + " (commit 6d2f2bd722fe, 2026-11-28)",
		},
		"plugin at a tag, in a repository of its own": {
			debug.BuildInfo{Main: debug.Module{Path: "caddy"}, Deps: []*debug.Module{{Path: ownModule, Version: "v0.1.0"}}, Settings: []debug.BuildSetting{
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
