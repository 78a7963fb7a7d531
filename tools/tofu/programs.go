//go:build programs

// Package programs names what is built from this module, so that go.mod and go.sum cover it.
package programs

import _ "github.com/opentofu/opentofu/cmd/tofu"
