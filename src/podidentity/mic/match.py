"""Which pod shall have which identity, kept up to date event by event. Pure.

The chain is pod -> selector -> bindings -> identities. Each event re-computes the pods it touches and nothing else;
``Matcher.visited`` counts the objects looked at, and does not grow with the size of the cluster.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from podidentity.api.constants import ASSIGNED_IDENTITY_NAMESPACE, POD_LABEL
from podidentity.api.core import Pod
from podidentity.api.identity import AzureIdentity, AzureIdentityBinding
from podidentity.api.meta import KubeObject
from podidentity.mic.wanted import AssignmentKey, Wanted, wanted
from podidentity.rules.identity_problem import identity_problem
from podidentity.rules.selection import identity_key, select, selector_of, wants_identities

Matched = Pod | AzureIdentity | AzureIdentityBinding


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a user has to mend: ``about`` is the object it concerns."""

    kind: Literal["malformed identity", "duplicate name", "no binding", "no identity"]
    about: KubeObject
    message: str

    @property
    def same(self) -> tuple[str, str, str]:
        """What tells it apart from others, whatever the version of the object."""
        return self.kind, self.about.key, self.message


@dataclass(frozen=True, slots=True)
class Delta:
    """What one event changed. An assignment that changed is both in ``removed`` and in ``added``."""

    pods: tuple[str, ...] = ()
    removed: tuple[Wanted, ...] = ()
    added: tuple[Wanted, ...] = ()
    problems: tuple[Problem, ...] = ()


class Matcher:
    """The wanted assignments. ``force_namespaced`` limits every match to one namespace."""

    def __init__(self, *, force_namespaced: bool = False) -> None:
        self._force = force_namespaced
        self.visited = 0
        self._pods: dict[str, Pod] = {}
        self._bindings: dict[str, AzureIdentityBinding] = {}
        self._identities: dict[str, AzureIdentity] = {}
        self._flaws: dict[str, str] = {}
        self._pods_by_selector: defaultdict[str, set[str]] = defaultdict(set)
        self._bindings_by_selector: defaultdict[str, set[str]] = defaultdict(set)
        self._bindings_by_identity: defaultdict[str, set[str]] = defaultdict(set)
        self._wanted: dict[str, dict[AssignmentKey, Wanted]] = {}
        self._troubles: dict[str, tuple[Problem, ...]] = {}

    def wanted(self) -> dict[AssignmentKey, Wanted]:
        """Everything wanted at present."""
        return {key: want for wants in self._wanted.values() for key, want in wants.items()}

    def counts(self) -> tuple[int, int, int]:
        """How many labelled pods, identities and bindings there are."""
        return len(self._pods), len(self._identities), len(self._bindings)

    def problems(self) -> list[Problem]:
        """Everything users have to mend at present."""
        flaws = [Problem("malformed identity", self._identities[key], text) for key, text in self._flaws.items()]
        return flaws + [problem for found in self._troubles.values() for problem in found]

    def apply(self, old: Matched | None, new: Matched | None) -> Delta:
        """Take one change in: added has no ``old``, deleted has no ``new``."""
        self.visited += 1
        subject = new if new is not None else old
        if isinstance(subject, Pod):
            return self._pod(subject.key, new if isinstance(new, Pod) else None)
        if isinstance(subject, AzureIdentityBinding):
            return self._binding(subject.key, new if isinstance(new, AzureIdentityBinding) else None)
        assert isinstance(subject, AzureIdentity)
        return self._identity(subject.key, new if isinstance(new, AzureIdentity) else None)

    def _pod(self, key: str, new: Pod | None) -> Delta:
        old = self._pods.pop(key, None)
        if new is not None and wants_identities(new):
            self._pods[key] = new
        else:
            new = None
        if old is not None and new is not None and _placement(old) == _placement(new):
            return Delta()
        if old is not None:
            _discard(self._pods_by_selector, selector_of(old), key)
        if new is not None:
            self._pods_by_selector[selector_of(new)].add(key)
        return self._recompute([key]) if old is not None or new is not None else Delta()

    def _binding(self, key: str, new: AzureIdentityBinding | None) -> Delta:
        old = self._bindings.pop(key, None)
        selectors = set()
        if old is not None:
            _discard(self._bindings_by_selector, old.spec.selector, key)
            _discard(self._bindings_by_identity, identity_key(old), key)
            selectors.add(old.spec.selector)
        if new is not None:
            self._bindings[key] = new
            self._bindings_by_selector[new.spec.selector].add(key)
            self._bindings_by_identity[identity_key(new)].add(key)
            selectors.add(new.spec.selector)
        if old is not None and new is not None and old.spec == new.spec:
            return Delta()
        return self._recompute(self._pods_selecting(selectors))

    def _identity(self, key: str, new: AzureIdentity | None) -> Delta:
        old = self._identities.pop(key, None)
        problems: tuple[Problem, ...] = ()
        flaw = None
        if new is not None:
            self._identities[key] = new
            flaw = identity_problem(new)
            if flaw is not None and self._flaws.get(key) != flaw:
                problems = (Problem("malformed identity", new, flaw),)
        self._flaws.pop(key, None)
        if flaw is not None:
            self._flaws[key] = flaw
        if old is not None and new is not None and old.spec == new.spec and old.namespaced == new.namespaced:
            return Delta(problems=problems)
        bindings = self._bindings_by_identity.get(key, set())
        self.visited += len(bindings)
        delta = self._recompute(self._pods_selecting({self._bindings[name].spec.selector for name in bindings}))
        return Delta(delta.pods, delta.removed, delta.added, problems + delta.problems)

    def _pods_selecting(self, selectors: set[str]) -> list[str]:
        return sorted({pod for selector in selectors for pod in self._pods_by_selector.get(selector, ())})

    def _sound_identity(self, key: str) -> AzureIdentity | None:
        self.visited += 1
        return None if key in self._flaws else self._identities.get(key)

    def _recompute(self, pods: list[str]) -> Delta:
        removed: list[Wanted] = []
        added: list[Wanted] = []
        problems: list[Problem] = []
        for key in pods:
            before = self._wanted.pop(key, {})
            after = self._match(key, problems)
            for name, want in before.items():
                now = after.get(name)
                if now is not None and now.intent == want.intent and now.namespace == want.namespace:
                    after[name] = want
                else:
                    removed.append(want)
            added.extend(want for name, want in after.items() if before.get(name) is not want)
            if after:
                self._wanted[key] = after
        return Delta(tuple(pods), tuple(removed), tuple(added), tuple(problems))

    def _match(self, key: str, problems: list[Problem]) -> dict[AssignmentKey, Wanted]:
        """What one pod wants; problems it did not have at its last match go into ``problems``."""
        pod = self._pods.get(key)
        troubles: list[Problem] = []
        result: dict[AssignmentKey, Wanted] = {}
        if pod is not None:
            names = self._bindings_by_selector.get(selector_of(pod), set())
            self.visited += 1 + len(names)
            bindings = [self._bindings[name] for name in sorted(names)]
            troubles += self._dead_ends(pod, bindings)
            for selected in select(pod, bindings, self._sound_identity, force_namespaced=self._force):
                identity = selected.identity
                moved = self._force or identity.namespaced
                namespace = identity.namespace if moved else ASSIGNED_IDENTITY_NAMESPACE
                want = wanted(pod, identity, selected.binding, namespace)
                first = result.setdefault(want.key, want)
                if first.identity.namespace != identity.namespace:
                    text = _duplicate_message(want.key, first.identity, identity)
                    troubles.append(Problem("duplicate name", pod, text))
        known = {problem.same for problem in self._troubles.pop(key, ())}
        if troubles:
            self._troubles[key] = tuple(troubles)
            problems.extend(problem for problem in troubles if problem.same not in known)
        return result

    def _dead_ends(self, pod: Pod, bindings: list[AzureIdentityBinding]) -> Iterator[Problem]:
        """Where the chain from this pod's label ends before an identity."""
        if not bindings:
            yield Problem(
                "no binding",
                pod,
                f"no AzureIdentityBinding has the selector {selector_of(pod)}, which is the pod's label {POD_LABEL}; "
                f"correct the label, or the binding's spec.selector",
            )
        for binding in bindings:
            target = identity_key(binding)
            if target not in self._identities:
                text = (
                    f"AzureIdentityBinding {binding.key} names AzureIdentity {target}, which does not exist; "
                    f"create it in the binding's namespace, or correct spec.azureIdentity"
                )
                yield Problem("no identity", binding, text)
                yield Problem("no identity", pod, text)


def _placement(pod: Pod) -> tuple[str, str, str]:
    return pod.metadata.uid, pod.spec.node_name, selector_of(pod)


def _discard(index: defaultdict[str, set[str]], value: str, key: str) -> None:
    members = index[value]
    members.discard(key)
    if not members:
        del index[value]


def _duplicate_message(key: AssignmentKey, first: AzureIdentity, second: AzureIdentity) -> str:
    return (
        f"pod {key.namespace}/{key.pod} selects AzureIdentity {key.identity} in namespaces {first.namespace} and "
        f"{second.namespace}; {first.namespace} wins. Use the namespaced mode (--forceNamespaced, or the annotation "
        f"aadpodidentity.k8s.io/Behavior: namespaced) to keep them apart"
    )
