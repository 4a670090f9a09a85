// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node_test

import (
	"context"
	"crypto"
	"fmt"
	"log"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/key"
	"github.com/sbom-bless/sbom-bless/node"
	"github.com/sbom-bless/sbom-bless/policy"
)

// The agent of a node: it puts each container of containerd under the list of its image, until ctx
// is done. What it put in force stays so.
func Example() {
	ctx := context.Background()
	verifier, err := enforce.Load(enforce.Options{Pins: enforce.DefaultPins, State: enforce.DefaultState})
	if err != nil {
		log.Fatal(err)
	}
	defer verifier.Close()
	err = node.Run(ctx, node.Config{
		Options: node.Options{
			Verifier: verifier,
			Policy:   "/etc/sbom-bless/policy.yaml",
			State:    enforce.DefaultState,
			Store:    "/var/lib/sbom-bless",
			Prepare: func(ctx context.Context, p *policy.Policy) (*node.Ready, error) {
				var trust attest.Trust
				for _, name := range p.Keys {
					public, err := key.LoadPublic(ctx, name)
					if err != nil {
						return nil, err
					}
					trust.Keys = append(trust.Keys, crypto.PublicKey(public))
				}
				lists := &node.Attested{Trust: trust, Sources: p.Attestations, Store: "/var/lib/sbom-bless/store"}
				return &node.Ready{Lists: lists.List, Use: func() error { return nil }}, nil
			},
			Notify: func(n node.Notice) { fmt.Println(n.Message) },
		},
		Containerd: "/run/containerd/containerd.sock",
		NRI:        "/var/run/nri/nri.sock",
		Storage:    node.DefaultStorage,
		Failed:     func(err error) { log.Print(err) },
	})
	if err != nil {
		log.Fatal(err)
	}
}
