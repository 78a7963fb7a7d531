{{- define "podidentity.micArgs" -}}
{{- $mic := .Values.mic }}
{{- if not .Values.adminsecret }}
- {{ printf "--cloudconfig=%s" (include "podidentity.cloudConfig" .) | quote }}
{{- end }}
- "--logtostderr"
{{- $verbosity := ternary "" $mic.logVerbosity (eq (toString $mic.logVerbosity) "0") }}
{{- include "podidentity.flags" (list
  (list "-v" $verbosity)
  (list "--log-format" $mic.loggingFormat)
  (list "--leader-election-instance" ($mic.leaderElection).instance)
  (list "--leader-election-namespace" ($mic.leaderElection).namespace)
  (list "--leader-election-name" ($mic.leaderElection).name)
  (list "--leader-election-duration" ($mic.leaderElection).duration)
  (list "--leader-election-lock" ($mic.leaderElection).lock)
  (list "--http-probe-port" $mic.probePort)
  (list "--prometheus-port" $mic.prometheusPort)
  (list "--syncRetryDuration" $mic.syncRetryDuration)
  (list "--immutable-user-msis" (join "," $mic.immutableUserMSIs))
  (list "--createDeleteBatch" $mic.createDeleteBatch)
  (list "--clientQps" $mic.clientQps)
  (list "--update-user-msi-max-retry" $mic.updateUserMSIMaxRetry)
  (list "--update-user-msi-retry-interval" $mic.updateUserMSIRetryInterval)
  (list "--identity-assignment-reconcile-interval" $mic.identityAssignmentReconcileInterval)
  (list "--identity-removal-linger" $mic.identityRemovalLinger)
  (list "--custom-user-agent" .Values.customUserAgent)
) }}
{{- if dig "mic" "manageStartupTaint" false .Values.AsMap }}
- "--manage-startup-taint"
- {{ printf "--nmi-selector=%s" (include "podidentity.selector" (list . "nmi") | replace ": " "=" | replace "\n" ",") | quote }}
{{- end }}
{{- range $mic.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "podidentity.micEnv" -}}
- name: MIC_POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: FORCENAMESPACED
  value: {{ include "podidentity.forceNamespaced" . | quote }}
{{- if (.Values.mic.customCloud).enabled }}
- name: AZURE_ENVIRONMENT_FILEPATH
  value: {{ (.Values.mic.customCloud).configPath | quote }}
{{- end }}
{{- if .Values.adminsecret }}
{{- $secret := include "podidentity.mic" . }}
{{- range $variable, $key := (include "podidentity.credentials" . | fromYaml) }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Environment variable of mic: key of the Secret. */}}
{{- define "podidentity.credentials" -}}
CLOUD: Cloud
SUBSCRIPTION_ID: SubscriptionID
RESOURCE_GROUP: ResourceGroup
VM_TYPE: VMType
TENANT_ID: TenantID
CLIENT_ID: ClientID
CLIENT_SECRET: ClientSecret
{{- if include "podidentity.truth" .Values.adminsecret.useMSI }}
USE_MSI: UseMSI
USER_ASSIGNED_MSI_CLIENT_ID: UserAssignedMSIClientID
{{- end }}
{{- end -}}

{{- define "podidentity.micSecurity" -}}
securityContext:
  {{- if .Values.adminsecret }}
  runAsNonRoot: true
  runAsUser: 65534
  runAsGroup: 65534
  {{- else }}
  runAsUser: 0
  {{- end }}
  readOnlyRootFilesystem: true
{{- end -}}

{{/* Name and path of the node's files that mic reads. */}}
{{- define "podidentity.micFiles" -}}
{{- if not .Values.adminsecret }}
k8s-azure-file: {{ (include "podidentity.cloudConfig" .) | quote }}
{{- end }}
{{- if (.Values.mic.customCloud).enabled }}
custom-env-file: {{ (.Values.mic.customCloud).configPath | quote }}
{{- end }}
{{- end -}}

{{- define "podidentity.micMounts" -}}
{{- with include "podidentity.micFiles" . | fromYaml -}}
volumeMounts:
  {{- range $name, $path := . }}
  - name: {{ $name }}
    mountPath: {{ $path }}
    readOnly: true
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "podidentity.micVolumes" -}}
{{- with include "podidentity.micFiles" . | fromYaml -}}
volumes:
  {{- range $name, $path := . }}
  - name: {{ $name }}
    hostPath:
      path: {{ $path }}
  {{- end }}
{{- end -}}
{{- end -}}
