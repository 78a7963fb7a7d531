{{- define "podidentity.nmiArgs" -}}
{{- $nmi := .Values.nmi }}
{{- $standard := include "podidentity.standard" . }}
{{- $elsewhere := ternary "" .Release.Namespace (eq .Release.Namespace "default") }}
{{- $verbosity := ternary "" $nmi.logVerbosity (eq (toString $nmi.logVerbosity) "0") }}
- "--node=$(NODE_NAME)"
{{- include "podidentity.flags" (list
  (list "--http-probe-port" $nmi.probePort)
  (list "--ipt-update-interval-sec" $nmi.ipTableUpdateTimeIntervalInSeconds)
  (list "--MICNamespace" (default $elsewhere $nmi.micNamespace))
  (list "--retry-attempts-for-created" $nmi.retryAttemptsForCreated)
  (list "--retry-attempts-for-assigned" $nmi.retryAttemptsForAssigned)
  (list "--find-identity-retry-interval" $nmi.findIdentityRetryIntervalInSeconds)
  (list "--enableScaleFeatures" $nmi.enableScaleFeatures)
  (list "--prometheus-port" $nmi.prometheusPort)
  (list "--block-instance-metadata" (include "podidentity.truth" $nmi.blockInstanceMetadata))
  (list "--metadata-header-required" $nmi.metadataHeaderRequired)
  (list "--log-format" $nmi.loggingFormat)
  (list "-v" $verbosity)
  (list "--operation-mode" (include "podidentity.mode" .))
) }}
{{- if not $standard }}
- "--forceNamespaced"
{{- end }}
{{- include "podidentity.flags" (list
  (list "--allow-network-plugin-kubenet" (include "podidentity.truth" $nmi.allowNetworkPluginKubenet))
  (list "--kubelet-config" (include "podidentity.kubeletConfig" .))
  (list "--custom-user-agent" .Values.customUserAgent)
  (list "--set-retry-after-header" (include "podidentity.truth" $nmi.setRetryAfterHeader))
  (list "--enable-conntrack-deletion" (include "podidentity.truth" $nmi.enableConntrackDeletion))
) }}
{{- include "podidentity.flags" (list
  (list "--audit" $nmi.audit)
  (list "--host-token-callers" (join "," $nmi.hostTokenCallers))
  (list "--host-token-socket" $nmi.hostTokenSocket)
  (list "--cgroup-root" (ternary "/host/cgroup" "" (eq "true" (include "podidentity.cgroupCallers" .))))
) }}
{{- if $nmi.surge }}
- "--lock-dir=/run/podidentity"
- "--probe-socket=/tmp/nmi-probe.sock"
{{- end }}
{{- range $nmi.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Whether a caller of /host/token is told by its cgroup, or by its token. */}}
{{- define "podidentity.cgroupCallers" -}}
{{- range .Values.nmi.hostTokenCallers }}{{ if regexMatch "^(pod|cgroup):" . }}true{{ break }}{{ end }}{{ end -}}
{{- end -}}

{{- define "podidentity.accountCallers" -}}
{{- range .Values.nmi.hostTokenCallers }}{{ if hasPrefix "service-account:" . }}true{{ break }}{{ end }}{{ end -}}
{{- end -}}

{{/* Folders of the node that nmi writes to, as a YAML list. */}}
{{- define "podidentity.nmiFolders" -}}
{{- $socket := default "" .Values.nmi.hostTokenSocket -}}
{{- $folders := ternary (list "/run/podidentity") list (eq "true" (toString .Values.nmi.surge)) -}}
{{- if $socket -}}{{- $folders = append $folders (dir $socket) -}}{{- end -}}
{{- toYaml ($folders | uniq) -}}
{{- end -}}

{{/* With surge two nmis run on a node for a while, and only a socket of the container's own reaches the right one. */}}
{{- define "podidentity.nmiProbes" -}}
{{- if .Values.nmi.surge -}}
livenessProbe:
  exec:
    command: [python3, -I, -m, podidentity.probe, /tmp/nmi-probe.sock, /healthz]
  initialDelaySeconds: 10
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
readinessProbe:
  exec:
    command: [python3, -I, -m, podidentity.probe, /tmp/nmi-probe.sock, /readyz]
  periodSeconds: 5
  timeoutSeconds: 5
{{- else -}}
{{- include "podidentity.probes" (default 8080 .Values.nmi.probePort) -}}
{{- end -}}
{{- end -}}

{{/* Writes or removes the boot guard. Argument: (list $ "install"). */}}
{{- define "podidentity.bootGuard" -}}
{{- $root := index . 0 -}}
initContainers:
  - name: boot-guard
    image: {{ include "podidentity.image" (list $root "nmi") | quote }}
    imagePullPolicy: {{ include "podidentity.pullPolicy" $root }}
    args:
      - {{ printf "--%s-boot-guard" (index . 1) | quote }}
      - "--host-root=/host"
    securityContext:
      runAsUser: 0
    volumeMounts:
      - name: host
        mountPath: /host
{{- end -}}
