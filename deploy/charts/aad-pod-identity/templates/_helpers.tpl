{{/* Names. As the original's: the release is not part of them, so a cluster holds one installation. */}}
{{- define "podidentity.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 59 | trimSuffix "-" -}}
{{- end -}}

{{- define "podidentity.mic" -}}{{ include "podidentity.name" . }}-mic{{- end -}}
{{- define "podidentity.nmi" -}}{{ include "podidentity.name" . }}-nmi{{- end -}}

{{/* Only the roles for users are named after the release. */}}
{{- define "podidentity.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 58 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 58 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 58 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selectors hold; it can never change. Argument: (list $ "mic"). */}}
{{- define "podidentity.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "podidentity.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "podidentity.labels" -}}
{{- $root := index . 0 -}}
{{ include "podidentity.selector" . }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/*
The image of one component. Values kept from the original's chart may name its repository and its versions (1.0 to 1.8):
ours replace them, and the notes say so. In a repository of your own we cannot know our tag.
Argument: (list $ "mic").
*/}}
{{- define "podidentity.image" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}{{- $part := index $root.Values $name -}}
{{- $tag := default (printf "v%s" $root.Chart.AppVersion) $part.tag | toString -}}
{{- $repository := default "podidentity" ($root.Values.image).repository -}}
{{- $ours := has $repository (list "podidentity" "mcr.microsoft.com/oss/azure/aad-pod-identity") -}}
{{- if regexMatch "^v?1\\.[0-8]\\.[0-9]+$" $tag -}}
{{- if not $ours -}}
{{- fail (printf "%s.tag: %s is a version of the original; set it to the tag that %s has podidentity's %s under (this chart's is v%s)" $name $tag $repository $name $root.Chart.AppVersion) -}}
{{- end -}}
{{- $tag = printf "v%s" $root.Chart.AppVersion -}}
{{- end -}}
{{ ternary "podidentity" $repository $ours }}/{{ default $name $part.image }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- end -}}

{{/* "true" for true and "true" in any case, empty for all else: a string "false" is false. */}}
{{- define "podidentity.truth" -}}
{{- if eq (. | toString | lower) "true" -}}true{{- end -}}
{{- end -}}

{{- define "podidentity.standard" -}}
{{- if ne (include "podidentity.mode" .) "managed" -}}true{{- end -}}
{{- end -}}

{{/* `helm upgrade --reuse-values` brings the old chart's values along, which may lack any of ours: hence a default each. */}}
{{- define "podidentity.mode" -}}{{ default "standard" .Values.operationMode }}{{- end -}}
{{- define "podidentity.pullPolicy" -}}{{ default "IfNotPresent" (.Values.image).imagePullPolicy }}{{- end -}}
{{- define "podidentity.cloudConfig" -}}{{ default "/etc/kubernetes/azure.json" .Values.mic.cloudConfig }}{{- end -}}
{{- define "podidentity.kubeletConfig" -}}{{ default "/etc/default/kubelet" .Values.nmi.kubeletConfig }}{{- end -}}
{{- define "podidentity.replicas" -}}{{ ternary 2 .Values.mic.replicas (kindIs "invalid" .Values.mic.replicas) }}{{- end -}}
{{- define "podidentity.rbac" -}}{{ if dig "rbac" "enabled" true .Values.AsMap }}true{{ end }}{{- end -}}
{{- define "podidentity.secrets" -}}{{ if dig "rbac" "allowAccessToSecrets" true .Values.AsMap }}true{{ end }}{{- end -}}

{{/* Exact casing of the value is the contract of the environment variable. */}}
{{- define "podidentity.forceNamespaced" -}}
{{- if or (include "podidentity.truth" .Values.forceNamespaced) (include "podidentity.truth" .Values.forceNameSpaced) -}}
true
{{- else -}}
false
{{- end -}}
{{- end -}}

{{/* Flags that are rendered when their value is not empty. Argument: (list (list "--flag" value) ..). */}}
{{- define "podidentity.flags" -}}
{{- range . }}
{{- $value := index . 1 | toString }}
{{- if and (ne $value "") (ne $value "<nil>") }}
- {{ printf "%s=%s" (index . 0) $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Fields that both pods have. Argument: (list $ .Values.mic). */}}
{{- define "podidentity.podFields" -}}
{{- $root := index . 0 -}}{{- $part := index . 1 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Argument: the port. */}}
{{- define "podidentity.probes" -}}
livenessProbe:
  httpGet:
    path: /healthz
    port: {{ . }}
  initialDelaySeconds: 10
  periodSeconds: 5
readinessProbe:
  httpGet:
    path: /readyz
    port: {{ . }}
  periodSeconds: 5
{{- end -}}

{{/* Port of metrics when it is named: by a port value, or because a PodMonitor looks for it. Argument: (list $ given default). */}}
{{- define "podidentity.metricsPort" -}}
{{- $root := index . 0 -}}
{{- $given := index . 1 | toString -}}
{{- if $given -}}{{ $given }}{{- else if (dig "metrics" "podMonitor" "enabled" false $root.Values.AsMap) -}}{{ index . 2 }}{{- end -}}
{{- end -}}

{{- define "podidentity.rbacMetadata" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
name: {{ include "podidentity.name" $root }}-{{ $component }}
labels:
  {{- include "podidentity.labels" . | nindent 2 }}
{{- end -}}

{{/* Clusters from 1.25 on have no PodSecurityPolicy; asked for there, it is left out. */}}
{{- define "podidentity.psp" -}}
{{- if and (.Values.rbac).pspEnabled (.Capabilities.APIVersions.Has "policy/v1beta1/PodSecurityPolicy") -}}true{{- end -}}
{{- end -}}

{{- define "podidentity.pspRule" -}}
{{- $root := index . 0 -}}
{{- if include "podidentity.psp" $root -}}
- apiGroups: [policy]
  resources: [podsecuritypolicies]
  resourceNames: [{{ printf "%s-psp-%s" (include "podidentity.name" $root) (index . 1) | quote }}]
  verbs: [use]
{{- end -}}
{{- end -}}

{{/* A hook that leaves nothing, but a pod that failed: its log says why. Argument: (list "post-delete" weight). */}}
{{- define "podidentity.hook" -}}
helm.sh/hook: {{ index . 0 }}
helm.sh/hook-weight: {{ index . 1 | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* Helm from 3.18 on prints that log itself. */}}
{{- define "podidentity.podHook" -}}
{{ include "podidentity.hook" . }}
helm.sh/hook-output-log-policy: hook-failed
{{- end -}}
