// SPDX-License-Identifier: MIT

package admin

import (
	"net/http"
	"sync/atomic"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

// rekeyRecords is how many records the pass that is running in this process has looked
// at, plus one; 0 if none is.
var rekeyRecords atomic.Int64

// rekey answers POST secrets/rekey: it moves what is kept to the first secret. A pass
// that is cut off is begun again.
func (c *call) rekey() error {
	c.change("secret.rekey")
	if !rekeyRecords.CompareAndSwap(0, 1) {
		return &wire.Problem{Status: http.StatusConflict, Detail: "This gateway is at it already; GET secrets/rekey tells how far."}
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
