// SPDX-License-Identifier: MIT

package admin

import (
	"net/http"
	"sync/atomic"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

// rekeyRecords is the number of records that the running pass has checked, plus one; 0 if
// none runs in this process.
var rekeyRecords atomic.Int64

// rekey answers POST secrets/rekey: it re-encrypts everything with the first secret. An
// interrupted pass has to be started again.
func (c *call) rekey() error {
	c.change("secret.rekey")
	if !rekeyRecords.CompareAndSwap(0, 1) {
		return &wire.Problem{Status: http.StatusConflict, Detail: "A pass is already running on this gateway; GET secrets/rekey shows its progress."}
	}
	defer rekeyRecords.Store(0)
	if err := c.authority.Rekey(c.ctx, func(records int) { rekeyRecords.Store(int64(records) + 1) }); err != nil {
		return err
	}
	return c.answer(http.StatusOK, wire.Rekeyed{Records: int(rekeyRecords.Load()) - 1, Keys: c.authority.Status(c.ctx).Keys})
}

// showRekey answers GET secrets/rekey: how far the pass is that runs on this gateway.
func (c *call) showRekey() error {
	records := rekeyRecords.Load()
	return c.answer(http.StatusOK, wire.Rekeying{Running: records > 0, Records: int(max(records-1, 0))})
}
