{{/* Name of the chart's objects: at most 40 characters, so that pods' names fit into a label. */}}
{{- define "weir-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if hasPrefix .Release.Name $name -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pods; they never change. */}}
{{- define "weir-operator.selectorLabels" -}}
app.kubernetes.io/name: weir-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object of the chart. */}}
{{- define "weir-operator.labels" -}}
{{ include "weir-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: weir
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "weir-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "weir-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do in the namespaces that it watches. */}}
{{- define "weir-operator.rules" -}}
- apiGroups: [weir.dev]
  resources: [clusters, topics, consumergroups]
  verbs: [get, list, watch]
# The finalizer of a Topic whose data goes with it. Specs are never written.
- apiGroups: [weir.dev]
  resources: [topics]
  verbs: [patch]
- apiGroups: [weir.dev]
  resources: [clusters/status, topics/status, consumergroups/status]
  verbs: [patch]
# To name a Cluster as the owner of its objects where the API server checks who may.
- apiGroups: [weir.dev]
  resources: [clusters/finalizers]
  verbs: [update]
# Applied server-side, which takes create and patch. Removed with their Cluster by Kubernetes itself, through owner references.
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, patch]
# Those of listeners that are no longer wanted, and of brokers that left.
- apiGroups: [""]
  resources: [services]
  verbs: [delete]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# Volumes grow with spec.storage.size, and go with brokers that left where spec.storage.onScaleDown is Delete.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, patch, delete]
# Certificates of the brokers and the operator. By name only: Secrets are neither listed nor watched.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
# Rolls delete pods one at a time.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
