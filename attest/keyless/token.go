// SPDX-License-Identifier: Apache-2.0

package keyless

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// audience is who the token is for: Fulcio takes no other.
const audience = "sigstore"

// Token gets the identity token that the environment offers: SIGSTORE_ID_TOKEN,
// which GitLab CI and others set by configuration, or that of a GitHub Actions
// job (docs.github.com, "OpenID Connect reference"). Getenv is os.Getenv.
func Token(ctx context.Context, getenv func(string) string) (string, error) {
	if t := getenv("SIGSTORE_ID_TOKEN"); t != "" {
		return t, nil
	}
	address, bearer := getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if address == "" || bearer == "" {
		return "", ErrNoToken
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("ACTIONS_ID_TOKEN_REQUEST_URL: %w", err)
	}
	q := u.Query()
	q.Set("audience", audience)
	u.RawQuery = q.Encode()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "bearer "+bearer)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("identity token: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("identity token: %s: %s", u.Host, resp.Status)
	}
	var answer struct{ Value string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		return "", fmt.Errorf("identity token: %s: %w", u.Host, err)
	}
	if answer.Value == "" {
		return "", fmt.Errorf("identity token: %s: none in the answer", u.Host)
	}
	return answer.Value, nil
}
