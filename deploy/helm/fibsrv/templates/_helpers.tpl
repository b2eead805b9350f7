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
