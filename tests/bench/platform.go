// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

// platform creates applications and tokens with the gateway's own Authority, on the same Redis and
// secret. Without HTTP, ten thousand take seconds.
type platform struct {
	authority *tokens.Authority
	store     *tokens.Store
}

var allScopes = tokens.Scopes{tokens.ScopeRoomsList, tokens.ScopeRoomsRetrieve, tokens.ScopeRoomsCreate}

func newPlatform(l *lab, keys ...*signing.Key) (*platform, error) {
	store, err := tokens.OpenRedis(tokens.RedisOptions{URL: "redis://" + l.redis.address})
	if err != nil {
		return nil, err
	}
	authority, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{[]byte(l.secret)}, SigningKeys: keys})
	if err != nil {
		return nil, err
	}
	authority.Start()
	return &platform{authority: authority, store: store}, nil
}

func (p *platform) close() {
	_ = p.authority.Close()
	_ = p.store.Close()
}

// client is an application with its secret.
type client struct {
	*tokens.Application
	secret string
}

func (p *platform) applications(ctx context.Context, n int) ([]client, error) {
	clients := make([]client, n)
	for i := range clients {
		app, secret, err := p.authority.CreateApplication(ctx, tokens.Application{
			Name: fmt.Sprintf("Platform %d", i), Active: true, Scopes: allScopes, Domains: []string{"example.com"},
		})
		if err != nil {
			return nil, fmt.Errorf("registering an application: %w", err)
		}
		clients[i] = client{app, secret}
	}
	return clients, nil
}

func mail(user int) tokens.Mail { return tokens.Mail(fmt.Sprintf("user%d@example.com", user)) }

// issue makes n tokens. Token i belongs to application i modulo their number and to user i modulo
// users.
func (p *platform) issue(ctx context.Context, n int, clients []client, users int) ([]*tokens.Token, error) {
	issued := make([]*tokens.Token, n)
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(16)
	for i := range issued {
		workers.Go(func() (err error) {
			issued[i], err = p.authority.Issue(ctx, tokens.Grant{Application: clients[i%len(clients)].Application, Mail: mail(i % users), Scopes: allScopes})
			return err
		})
	}
	if err := workers.Wait(); err != nil {
		return nil, fmt.Errorf("issuing tokens: %w", err)
	}
	return issued, nil
}
