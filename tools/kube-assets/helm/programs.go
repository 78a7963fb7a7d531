//go:build programs

// Package programs names what is built from this module, so that go.mod and go.sum cover it.
package programs

import _ "helm.sh/helm/v3/cmd/helm"
