{{- define "maskmend.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "maskmend.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "maskmend.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "maskmend.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "maskmend.selector" -}}
app.kubernetes.io/name: {{ include "maskmend.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "maskmend.labels" -}}
{{ include "maskmend.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "maskmend.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "maskmend.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "maskmend.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end }}

{{- define "maskmend.triton" -}}
{{- printf "%s-triton" (include "maskmend.fullname" .) -}}
{{- end }}

{{/* Every Triton by its own name: behind one name, a gateway's connections would all end up at one pod. */}}
{{- define "maskmend.tritonUrl" -}}
{{- $name := include "maskmend.triton" . -}}
{{- range $i := until (int .Values.triton.replicas) -}}
{{- if $i }},{{ end -}}
grpc://{{ $name }}-{{ $i }}.{{ $name }}:8001
{{- end -}}
?wait_s={{ .Values.triton.waitSeconds }}&start_s={{ .Values.triton.startSeconds }}&timeout_s={{ .Values.triton.timeoutSeconds }}
{{- end }}

{{- define "maskmend.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "maskmend.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile:
  type: RuntimeDefault
{{- end }}
