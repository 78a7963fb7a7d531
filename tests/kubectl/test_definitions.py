"""CustomResourceDefinitions that are not ours, made by kubectl and used at once; both servers answer alike."""

from __future__ import annotations

from collections.abc import Callable

from tests.kubectl.clusters import Step

Play = Callable[..., None]
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.NAME.example.org}
spec:
  group: NAME.example.org
  scope: Namespaced
  names: {plural: things, singular: thing, kind: Thing, listKind: ThingList, shortNames: [NAMEt], categories: [NAMEs]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size, labelSelectorPath: .status.selector}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Colour, type: string, jsonPath: .spec.colour, description: What it looks like, priority: 1}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: A thing is a thing.
        required: [spec]
        properties:
          spec:
            type: object
            description: What it should be.
            required: [size]
            properties:
              size: {type: integer, minimum: 1, maximum: 5, default: 2, description: How large it is.}
              colour: {type: string, enum: [red, green], description: Its colour.}
              tags: {type: array, maxItems: 2, items: {type: string, pattern: '^[a-z]+$'}}
              more: {type: object, x-kubernetes-preserve-unknown-fields: true}
              words: {type: object, additionalProperties: {type: string, maxLength: 3}}
          status:
            type: object
            properties: {size: {type: integer}, selector: {type: string}}
"""
THING = """
apiVersion: NAME.example.org/v1
kind: Thing
metadata: {name: t1, labels: {a: b}}
spec: {size: 3, colour: red, more: {x: {y: 1}}, words: {a: b}}
"""


def test_a_definition_of_ones_own(play: Play) -> None:
    """A new kind is listed, explained, read, written and scaled, as long as its definition stands."""
    crd, thing = CRD.replace("NAME", "own"), THING.replace("NAME", "own")
    play(
        Step("apply -f -", crd, says="created"),
        Step("wait crd/things.own.example.org --for=condition=Established --timeout=10s", says="condition met"),
        Step("wait crd/things.own.example.org --for=condition=NamesAccepted=True --timeout=10s", says="condition met"),
        Step("get crd things.own.example.org", says="CREATED AT"),
        Step("get crd things.own.example.org -o yaml", says="storedVersions"),
        Step("describe crd things.own.example.org", says="Accepted Names"),
        Step("api-resources --api-group=own.example.org", says="ownt"),
        Step("explain things.own.example.org", says="A thing is a thing.", within=20),
        Step("explain things.own.example.org.spec.size", says="How large it is."),
        Step("explain things.own.example.org --recursive", says="colour"),
        Step("explain things.own.example.org.spec.nope", code=1, says="does not exist"),
        Step("get things", says="No resources found"),
        Step("diff -f -", thing, code=1, says="+  size: 3"),
        Step("apply -f -", thing, says="thing.own.example.org/t1 created"),
        Step("apply -f -", thing, says="thing.own.example.org/t1 unchanged"),
        Step("apply -f -", thing.replace("size: 3", "size: 4"), says="configured"),
        Step("get ownt", says="SIZE"),
        Step("get things -o wide", says="COLOUR"),
        Step("get owns -o name", says="thing.own.example.org/t1"),
        Step("get thing t1 -o yaml", says="size: 4"),
        Step("get things -l a=b -o jsonpath={.items[0].spec.words.a}", says="b"),
        Step("get things --field-selector metadata.name=t1 -o name", says="t1"),
        Step("get things --field-selector spec.size=4", code=1, says="field label not supported"),
        Step("get things --sort-by=.spec.size", says="t1"),
        Step("describe thing t1", says="Colour:"),
        Step("label thing t1 c=d", says="labeled"),
        Step("annotate thing t1 c=d", says="annotated"),
        Step("edit thing t1", editor="sed -i s/red/green/", says="edited"),
        Step("edit thing t1", editor="sed -i s/green/blue/", code=1, says="is invalid"),
        Step("""patch thing t1 --type=merge -p '{"spec":{"size":5}}'""", says="patched"),
        Step("""patch thing t1 --type=json -p '[{"op":"remove","path":"/spec/colour"}]'""", says="patched"),
        Step("""patch thing t1 -p '{"spec":{"size":5}}'""", code=1, says="is not supported by"),
        Step("""patch thing t1 --subresource=status --type=merge -p '{"status":{"size":7}}'""", says="patched"),
        Step("""patch thing t1 --type=merge -p '{"status":{"size":8}}'""", says="no change"),
        Step("wait thing/t1 --for=jsonpath={.status.size}=7 --timeout=5s", says="condition met"),
        Step("scale thing t1 --replicas=2", says="scaled"),
        Step("get thing t1 -o jsonpath='{.spec.size} {.status.size} {.metadata.generation}'", says="2 7"),
        Step("scale thing t1 --replicas=9", code=1, says="should be less than or equal to 5"),
        Step("replace -f -", thing.replace("size: 3", "size: 1"), says="replaced"),
        Step("delete -f -", thing, says="deleted"),
        Step("apply -f -", thing, says="created"),
        Step("delete crd things.own.example.org --timeout=20s", says="deleted"),
        Step("get things.own.example.org", code=1, says="doesn't have a resource type"),
        Step("apply -f -", thing, code=1, says="ensure CRDs are installed first"),
    )


def test_wrong_objects_of_a_definition(play: Play) -> None:
    """What a schema forbids is refused in the same words."""
    crd, thing = CRD.replace("NAME", "bad"), THING.replace("NAME", "bad")

    def wrong(old: str, new: str, says: str) -> Step:
        return Step("create -f -", thing.replace(old, new), code=1, says=says)

    play(
        Step("apply -f -", crd, says="created"),
        Step("wait crd/things.bad.example.org --for=condition=Established --timeout=10s"),
        wrong("size: 3", "size: 9", "should be less than or equal to 5"),
        wrong("words: {a: b}", "words: 7", "must be of type object"),
        wrong("red", "blue", 'supported values: "red", "green"'),
        wrong("colour", "Colour", 'unknown field "spec.Colour"'),
        wrong("words: {a: b}", "words: {a: long}", "may not be more than 3"),
        wrong("words: {a: b}", "tags: [A]", "should match"),
        wrong("words: {a: b}", "tags: [a, b, c]", "must have at most 2 items"),
        wrong("name: t1", "name: T_1", "a lowercase RFC 1123 subdomain"),
        wrong("bad.example.org/v1", "bad.example.org/v2", "no matches for kind"),
        wrong("Thing", "thing", "must be Thing"),
        wrong("labels: {a: b}", "labels: {a: 'b c'}", "a valid label must be"),
        Step("create -f -", thing.split("spec:")[0], code=1, says="Required value"),
        Step("create -f - --validate=ignore", thing.replace("colour", "Colour"), says="created"),
        Step("get thing t1 -o yaml", says="size: 3"),
        Step(
            "apply -f - --validate=warn", thing.replace("colour", "Colour"), says='Warning: unknown field "spec.Colour"'
        ),
        Step("delete crd things.bad.example.org --timeout=20s", says="deleted"),
    )


def test_wrong_definitions(play: Play) -> None:
    """A definition that is not sound is refused in the same words."""

    def wrong(old: str, new: str, says: str = "") -> Step:
        return Step("create -f -", CRD.replace("NAME", "wrong").replace(old, new), code=1, says=says)

    play(
        wrong("name: things.wrong", "name: other.wrong", "must be spec.names.plural"),
        wrong("scope: Namespaced", "scope: Everywhere", "supported values"),
        Step(
            "create -f -",
            CRD.replace("NAME", "wrong").replace("storage: true", "storage: false"),
            code=1,
            says="must have exactly one version marked as storage version",
            alike="first",
        ),
        wrong("kind: Thing,", "", "Required value"),
        wrong("scope: Namespaced", "skope: Namespaced", 'unknown field "spec.skope"'),
    )
