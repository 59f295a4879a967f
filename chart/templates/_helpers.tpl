{{/*
Names and labels. One release per namespace: names inside a namespace are fixed.

`helm upgrade --reuse-values` brings the values of the release that is there, without what values.yaml has got since. So
templates read a younger value as (.Values.brokers).create, which is empty where there is no `brokers`.
*/}}
{{- define "knative-lambda.name" -}}
knative-lambda-operator
{{- end }}

{{/* What is not in the release's own namespace carries its name: two releases in one cluster must not meet. */}}
{{- define "knative-lambda.farName" -}}
{{ include "knative-lambda.name" . }}:{{ .Release.Namespace }}
{{- end }}

{{- define "knative-lambda.selectorLabels" -}}
app.kubernetes.io/name: {{ include "knative-lambda.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "knative-lambda.labels" -}}
{{ include "knative-lambda.selectorLabels" . }}
app.kubernetes.io/part-of: knative-lambda
app.kubernetes.io/component: controller
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "knative-lambda.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "knative-lambda.name" .) }}
{{- end }}

{{- define "knative-lambda.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "knative-lambda.rabbitmqSecret" -}}
{{ .Values.rabbitmq.existingSecret.name | default (printf "%s-rabbitmq" (include "knative-lambda.name" .)) }}
{{- end }}

{{- define "knative-lambda.rabbitmqKey" -}}
{{ ternary .Values.rabbitmq.existingSecret.key "url" (ne .Values.rabbitmq.existingSecret.name "") }}
{{- end }}

{{/* "true" when a RabbitMQ is named, else empty. */}}
{{- define "knative-lambda.hasRabbitMQ" -}}
{{- if or .Values.rabbitmq.existingSecret.name .Values.rabbitmq.url }}true{{ end }}
{{- end }}

{{/* Who makes dead-letter queues, as the controller's setting says it. */}}
{{- define "knative-lambda.deadLetters" -}}
{{- if (.Values.deadLetters).enabled }}{{ .Values.deadLetters.declare | default "amqp" }}{{ else }}none{{ end }}
{{- end }}

{{/* Namespace of the topology operator's objects: that of the RabbitmqCluster needs no leave of its annotation. */}}
{{- define "knative-lambda.deadLetterNamespace" -}}
{{ coalesce (.Values.deadLetters).namespace (.Values.rabbitmq.cluster).namespace .Release.Namespace }}
{{- end }}

{{/* A function in the words of an alert, which Prometheus fills in. The catch-all queue has no namespace. */}}
{{- define "knative-lambda.alertFunction" -}}
{{ "{{ with $labels.namespace }}{{ . }}/{{ end }}{{ $labels.function_name }}" }}
{{- end }}

{{/* "true" when a real API server is asked: `helm template` knows groups, but no kinds. */}}
{{- define "knative-lambda.online" -}}
{{- if .Capabilities.APIVersions.Has "v1/Pod" }}true{{ end }}
{{- end }}
