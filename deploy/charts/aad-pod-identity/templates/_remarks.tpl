{{/* What the values make worth knowing, as a YAML list: shown after installing and upgrading. */}}
{{- define "podidentity.remarks" -}}
{{- $root := . }}
{{- if .Release.IsUpgrade }}
- {{ print "Helm never upgrades CRDs. After a change of version apply them: helm show crds CHART | kubectl apply -f -" | quote }}
{{- end }}
{{- range ternary (list "mic" "nmi") (list "nmi") (eq "true" (include "podidentity.standard" .)) }}
{{- $part := index $root.Values . }}
{{- $given := printf "%s/%s:%s" (default "podidentity" ($root.Values.image).repository) (default . $part.image) (default (printf "v%s" $root.Chart.AppVersion) $part.tag) }}
{{- $used := include "podidentity.image" (list $root .) }}
{{- if and (ne $given $used) (not (contains "@" $used)) }}
- {{ printf "The values name an image of the original, %s. This chart runs %s instead: remove image.repository and %s.tag from them." $given $used . | quote }}
{{- end }}
{{- end }}
{{- if and (include "podidentity.rbac" .) (include "podidentity.secrets" .) }}
- "nmi may read every Secret of the cluster. Only identities of type 1 and 2 need that: set rbac.allowAccessToSecrets=false without them, and with them give nmi a Role for each Secret that they name."
{{- end }}
{{- if and (.Values.rbac).pspEnabled (not (include "podidentity.psp" .)) }}
- "rbac.pspEnabled has no effect: this Kubernetes has no PodSecurityPolicies."
{{- end }}
{{- if include "podidentity.truth" .Values.nmi.allowNetworkPluginKubenet }}
- "nmi starts on kubenet nodes. There a pod with NET_RAW can pose as another: drop that capability by policy."
{{- end }}
{{- if eq "false" (.Values.nmi.metadataHeaderRequired | toString | lower) }}
- "nmi.metadataHeaderRequired=false: an application that fetches URLs for strangers can be made to fetch them a token."
{{- end }}
{{- if and .Values.mic.podDisruptionBudget (include "podidentity.standard" .) (le (include "podidentity.replicas" . | int) (int (default 0 .Values.mic.podDisruptionBudget.minAvailable))) }}
- "mic.podDisruptionBudget keeps all of mic's replicas: no node that runs one can be drained."
{{- end }}
{{- end -}}
