{{- /* Names, labels, and API versions. */ -}}

{{- define "fibsrv.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The release name, followed by the chart name unless already included. */ -}}
{{- define "fibsrv.fullname" -}}
{{- $name := include "fibsrv.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* The Service of metrics and health. */ -}}
{{- define "fibsrv.adminName" -}}
{{- printf "%s-admin" (include "fibsrv.fullname" . | trunc 57 | trimSuffix "-") }}
{{- end }}

{{- /* Selects the servers, but not the pod of `helm test`. */ -}}
{{- define "fibsrv.selectorLabels" -}}
app.kubernetes.io/name: {{ include "fibsrv.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{- define "fibsrv.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "fibsrv.labels" -}}
{{ include "fibsrv.commonLabels" . }}
{{ include "fibsrv.selectorLabels" . }}
{{- end }}

{{- /* The labels of the pod of `helm test`. */ -}}
{{- define "fibsrv.testLabels" -}}
app.kubernetes.io/name: {{ include "fibsrv.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end }}

{{- define "fibsrv.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "fibsrv.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "fibsrv.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* Converts a Kubernetes quantity or a server size to bytes. */ -}}
{{- define "fibsrv.bytes" -}}
{{- $text := kindIs "float64" . | ternary (printf "%.0f" (float64 (kindIs "float64" . | ternary . 0.0))) (toString .) }}
{{- $factors := dict "" 1 "K" 1000 "Ki" 1024 "M" 1000000 "Mi" 1048576 "G" 1000000000 "Gi" 1073741824 }}
{{- mulf (regexFind "^[0-9.]+" $text | float64) (get $factors (regexFind "[KMG]i?" $text)) | floor | int64 }}
{{- end }}

{{- /* Rejects values whose worst case exceeds the memory limit. The estimate is that of values.yaml. */ -}}
{{- define "fibsrv.checkMemory" -}}
{{- $limits := default dict .Values.resources.limits }}
{{- if $limits.memory }}
{{- $workers := default 1 .Values.workers }}
{{- if eq (toString $workers) "auto" }}
{{- $cpu := toString (default "1" $limits.cpu) }}
{{- $workers = hasSuffix "m" $cpu | ternary (div (add (trimSuffix "m" $cpu | int64) 999) 1000) (ceil (float64 $cpu)) }}
{{- end }}
{{- $config := .Values.config }}
{{- $connections := mul (default 100000 $config.maxConnections | int64) 102400 }}
{{- $cache := include "fibsrv.bytes" (default "64MiB" $config.cacheSize) | int64 }}
{{- $table := default 10000 $config.tableMaxN | int64 }}
{{- $computation := mul (default 10000000 $config.maxN | int64) 5 }}
{{- $need := add (mul (int64 $workers) (add $connections $cache $computation)) (div (mul $table $table) 9) 16777216 }}
{{- if gt $need (include "fibsrv.bytes" $limits.memory | int64) }}
{{- fail (printf "resources.limits.memory (%v) is less than the worst case of %d MiB: increase it, or reduce workers (%v), config.maxConnections, config.cacheSize, config.maxN or config.tableMaxN" $limits.memory (div $need 1048576) $workers) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The public host names, as JSON. */ -}}
{{- define "fibsrv.publicNames" -}}
{{- $names := list }}
{{- if .Values.ingress.enabled }}{{ $names = concat $names .Values.ingress.hosts }}{{ end }}
{{- if .Values.httpRoute.enabled }}{{ $names = concat $names .Values.httpRoute.hostnames }}{{ end }}
{{- $names | uniq | toJson }}
{{- end }}

{{- /* The certificate secret; empty without TLS. */ -}}
{{- define "fibsrv.tlsSecret" -}}
{{- if .Values.ingress.tlsSecret }}
{{- .Values.ingress.tlsSecret }}
{{- else if .Values.certManager.enabled }}
{{- printf "%s-tls" (include "fibsrv.fullname" . | trunc 59 | trimSuffix "-") }}
{{- end }}
{{- end }}

{{- /* autoscaling/v2 needs Kubernetes 1.23; the fields are the same. */ -}}
{{- define "fibsrv.autoscalingVersion" -}}
{{- .Capabilities.APIVersions.Has "autoscaling/v2" | ternary "autoscaling/v2" "autoscaling/v2beta2" }}
{{- end }}

{{- /* policy/v1 needs Kubernetes 1.21; the fields are the same. */ -}}
{{- define "fibsrv.policyVersion" -}}
{{- .Capabilities.APIVersions.Has "policy/v1" | ternary "policy/v1" "policy/v1beta1" }}
{{- end }}
