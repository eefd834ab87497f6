{{/* Name of the Cluster. */}}
{{- define "weir-cluster.name" -}}
{{- default .Release.Name .Values.nameOverride -}}
{{- end -}}

{{/* Labels of every object of the chart. */}}
{{- define "weir-cluster.labels" -}}
app.kubernetes.io/name: weir-cluster
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: weir
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Where clients inside Kubernetes begin. */}}
{{- define "weir-cluster.bootstrap" -}}
{{ include "weir-cluster.name" . }}-bootstrap.{{ .Release.Namespace }}.svc:9092
{{- end -}}
