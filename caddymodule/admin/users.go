// SPDX-License-Identifier: MIT

package admin

import (
	"net/http"
	"strings"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// showUser answers GET users/{id}. Mail addresses are accepted by POST users/lookup only,
// because Caddy logs the paths of requests to its admin endpoint.
func (c *call) showUser() error {
	if strings.Contains(c.argument, "@") {
		return &wire.Problem{
			Status: http.StatusBadRequest,
			Detail: `Mail addresses must not be in the path, which is logged. Send POST /meet-gateway/users/lookup with {"mail": "…"}.`,
		}
	}
	return c.answerUser(c.argument)
}

// lookUpUser answers POST users/lookup.
func (c *call) lookUpUser() error {
	var in struct {
		Mail string `json:"mail"`
	}
	if err := c.decode(maxBody, &in, "mail"); err != nil {
		return err
	}
	mail, err := tokens.ParseMail(in.Mail)
	if err != nil {
		return &wire.Problem{Status: http.StatusUnprocessableEntity, Field: "mail", Detail: "It is not a mail address."}
	}
	return c.answerUser(string(mail))
}

func (c *call) answerUser(idOrMail string) error {
	user, err := c.authority.User(c.ctx, idOrMail)
	if err != nil {
		return notFoundAs(err, "", "No application has ever acted for this user.")
	}
	return c.answer(http.StatusOK, user)
}
