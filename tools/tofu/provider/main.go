// Command provider is a stand-in for the providers azurerm and local, chosen by the name it is run under. It has the
// schemas of schemas.json and does nothing: `tofu test` makes up what Azure would answer (mock_provider).
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

//go:embed schemas.json
var schemas []byte

// attributes are the arguments and results of a block by name: "required string", "computed list(kubelet)".
type attributes map[string]string

type provider struct {
	Objects   map[string]map[string]string
	Resources map[string]attributes
	Data      map[string]attributes
}

type server struct {
	tfprotov6.ProviderServer // what is not answered below is never asked of a provider that is mocked
	described provider
}

func main() {
	name := strings.SplitN(strings.TrimPrefix(filepath.Base(os.Args[0]), "terraform-provider-"), "_", 2)[0]
	var all map[string]provider
	if err := json.Unmarshal(schemas, &all); err != nil {
		log.Fatal(err)
	}
	described, found := all[name]
	if !found {
		log.Fatalf("there is no stand-in for the provider %q", name)
	}
	made := func() tfprotov6.ProviderServer { return &server{described: described} }
	if err := tf6server.Serve("hashicorp/"+name, made); err != nil {
		log.Fatal(err)
	}
}

func (s *server) kind(text string) tftypes.Type {
	switch {
	case text == "string":
		return tftypes.String
	case text == "bool":
		return tftypes.Bool
	case strings.HasPrefix(text, "list("):
		return tftypes.List{ElementType: s.kind(text[5 : len(text)-1])}
	case strings.HasPrefix(text, "map("):
		return tftypes.Map{ElementType: s.kind(text[4 : len(text)-1])}
	}
	fields, found := s.described.Objects[text]
	if !found {
		log.Fatalf("schemas.json: there is no type %q", text)
	}
	types := map[string]tftypes.Type{}
	for name, field := range fields {
		types[name] = s.kind(field)
	}
	return tftypes.Object{AttributeTypes: types}
}

func (s *server) schemas(blocks map[string]attributes) map[string]*tfprotov6.Schema {
	made := map[string]*tfprotov6.Schema{}
	for name, fields := range blocks {
		block := &tfprotov6.SchemaBlock{}
		for field, text := range fields {
			how, kind, _ := strings.Cut(text, " ")
			block.Attributes = append(block.Attributes, &tfprotov6.SchemaAttribute{
				Name:     field,
				Type:     s.kind(kind),
				Required: how == "required",
				Optional: strings.HasPrefix(how, "optional"),
				Computed: strings.HasSuffix(how, "computed"),
			})
		}
		made[name] = &tfprotov6.Schema{Block: block}
	}
	return made
}

// GetProviderSchema answers with the blocks of schemas.json; the provider's own block takes features alone.
func (s *server) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	features := &tfprotov6.SchemaNestedBlock{
		TypeName: "features", Nesting: tfprotov6.SchemaNestedBlockNestingModeList, Block: &tfprotov6.SchemaBlock{},
	}
	return &tfprotov6.GetProviderSchemaResponse{
		Provider:          &tfprotov6.Schema{Block: &tfprotov6.SchemaBlock{BlockTypes: []*tfprotov6.SchemaNestedBlock{features}}},
		ResourceSchemas:   s.schemas(s.described.Resources),
		DataSourceSchemas: s.schemas(s.described.Data),
	}, nil
}

// ValidateProviderConfig has no objection.
func (s *server) ValidateProviderConfig(_ context.Context, ask *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: ask.Config}, nil
}

// ValidateResourceConfig has no objection beyond the schema, which tofu has checked.
func (s *server) ValidateResourceConfig(context.Context, *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	return &tfprotov6.ValidateResourceConfigResponse{}, nil
}

// ValidateDataResourceConfig has no objection either.
func (s *server) ValidateDataResourceConfig(context.Context, *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	return &tfprotov6.ValidateDataResourceConfigResponse{}, nil
}

// UpgradeResourceState gives back the state as it is: there is one version of each schema.
func (s *server) UpgradeResourceState(_ context.Context, ask *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	types := map[string]tftypes.Type{}
	for field, text := range s.described.Resources[ask.TypeName] {
		_, kind, _ := strings.Cut(text, " ")
		types[field] = s.kind(kind)
	}
	object := tftypes.Object{AttributeTypes: types}
	value, err := ask.RawState.Unmarshal(object)
	if err != nil {
		return nil, err
	}
	state, err := tfprotov6.NewDynamicValue(object, value)
	return &tfprotov6.UpgradeResourceStateResponse{UpgradedState: &state}, err
}

// StopProvider has nothing to stop.
func (s *server) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}
