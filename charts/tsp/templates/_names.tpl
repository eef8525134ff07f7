{{/*
tsp.run.name: the run's name, which is the release's. Every object is called so, or begins so.
Refuses what cannot also be a folder of the store and a pod called <name>-worker-<n>, rather than cutting it.
*/}}
{{- define "tsp.run.name" -}}
{{- if gt (len .Release.Name) 44 -}}
{{- fail (printf "run name %q has %d characters; at most 44 are allowed" .Release.Name (len .Release.Name)) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "run name %q must start with a letter and contain only lower-case letters, digits and inner dashes" .Release.Name) -}}
{{- end -}}
{{- .Release.Name -}}
{{- end -}}

{{/* tsp.config.name: the ConfigMap with the run's configuration. */}}
{{- define "tsp.config.name" -}}
{{- include "tsp.run.name" . }}-config
{{- end -}}

{{/*
tsp.test.name: the Job of `helm test`. Helm deletes what is called so before it tests, so it must not be the name of
another run, such as `<name>-test`.
*/}}
{{- define "tsp.test.name" -}}
{{- include "tsp.run.name" . }}-test-{{ include "tsp.run.name" . | sha256sum | trunc 8 }}
{{- end -}}

{{/* tsp.text: a value as quoted text, which YAML reads as nothing else; whole numbers stay whole. */}}
{{- define "tsp.text" -}}
{{- if kindIs "float64" . -}}{{- ternary (int64 . | toString) (toString .) (eq . (floor .)) | quote -}}
{{- else -}}{{- toString . | quote -}}{{- end -}}
{{- end -}}

{{/* tsp.label: text as a label may have it: that of a version has no plus sign. */}}
{{- define "tsp.label" -}}
{{- replace "+" "_" . | trunc 63 | trimAll "-_." | quote -}}
{{- end -}}

{{/* tsp.texts: a mapping whose values are text to Kubernetes, whatever --set took them for. */}}
{{- define "tsp.texts" -}}
{{- range $key, $value := . }}
{{ $key | quote }}: {{ include "tsp.text" $value }}
{{- end -}}
{{- end -}}

{{/* tsp.items.withText: YAML of a list of objects, one of whose keys is text to Kubernetes. Arguments: items, key. */}}
{{- define "tsp.items.withText" -}}
{{- $items := list -}}
{{- range .items -}}
{{- $item := deepCopy . -}}
{{- if and (hasKey $item $.key) (not (kindIs "invalid" (get $item $.key))) -}}
{{- $_ := set $item $.key (printf "v: %s" (include "tsp.text" (get $item $.key)) | fromYaml).v -}}
{{- end -}}
{{- $items = append $items $item -}}
{{- end -}}
{{- toYaml $items -}}
{{- end -}}

{{/* tsp.serviceAccount.name: the account pods run as; it has no rights and no token. */}}
{{- define "tsp.serviceAccount.name" -}}
{{- .Values.serviceAccount.name | default (ternary (include "tsp.run.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* tsp.image.ref: image by digest where one is given, else by tag, else by the chart's own version. */}}
{{- define "tsp.image.ref" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* tsp.run.selector: the labels that find everything of one run. */}}
{{- define "tsp.run.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ include "tsp.run.name" . | quote }}
{{- end -}}

{{/* tsp.run.labels: labels of every object; `app.kubernetes.io/part-of` is what `tspctl list` looks for. */}}
{{- define "tsp.run.labels" -}}
{{ include "tsp.run.selector" . }}
app.kubernetes.io/part-of: tspctl
app.kubernetes.io/component: {{ .Values.job.kind | quote }}
app.kubernetes.io/version: {{ include "tsp.label" .Chart.AppVersion }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | include "tsp.label" }}
{{- with .Values.labels }}
{{ include "tsp.texts" . | trim }}
{{- end }}
{{- end -}}

{{/*
tsp.job.api: which object holds the pods: "job" for auxiliary jobs; for training "pytorchjob" or "trainjob". "auto" is a
PyTorchJob unless the cluster serves TrainJobs alone.
*/}}
{{- define "tsp.job.api" -}}
{{- $served := .Capabilities.APIVersions -}}
{{- if ne .Values.job.kind "train" -}}job
{{- else if ne .Values.job.api "auto" -}}{{ .Values.job.api }}
{{- else if and ($served.Has "trainer.kubeflow.org/v1alpha1/TrainJob") (not ($served.Has "kubeflow.org/v1/PyTorchJob")) -}}trainjob
{{- else -}}pytorchjob
{{- end -}}
{{- end -}}

{{/* tsp.job.pods: pods of a training run; refuses what cannot be shared out evenly. */}}
{{- define "tsp.job.pods" -}}
{{- $ranks := int .Values.gpusPerPod -}}
{{- if mod (int .Values.gpus) $ranks -}}
{{- fail (printf "gpus is %d, which is not a multiple of gpusPerPod %d" (int .Values.gpus) $ranks) -}}
{{- end -}}
{{- div (int .Values.gpus) $ranks -}}
{{- end -}}

{{/*
tsp.job.maxRestarts: starts of all pods of a TrainJob after the first. The run counts its attempts itself; twice as many
bound those that die before they can count.
*/}}
{{- define "tsp.job.maxRestarts" -}}
{{- $attempts := get (.Values.set | default dict) "max_attempts" | default 20 -}}
{{- if .Values.config -}}{{- $attempts = dig "max_attempts" 20 (fromJson .Values.config) -}}{{- end -}}
{{- if kindIs "invalid" .Values.runPolicy.backoffLimit -}}{{ mul 2 (int $attempts) }}{{- else -}}{{ int .Values.runPolicy.backoffLimit }}{{- end -}}
{{- end -}}

{{/* tsp.job.labels: labels of the job itself. */}}
{{- define "tsp.job.labels" -}}
{{ include "tsp.run.labels" . }}
{{- with .Values.queue }}
kueue.x-k8s.io/queue-name: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* tsp.run.owner: who trains the run, for a store that several namespaces, or clusters, share. */}}
{{- define "tsp.run.owner" -}}
namespace {{ .Release.Namespace }}{{ with .Values.clusterName }} of cluster {{ . }}{{ end }}
{{- end -}}

{{/* tsp.job.annotations: what tspctl reads of a training job. */}}
{{- define "tsp.job.annotations" -}}
tspctl/store: {{ include "tsp.store.settings" . | quote }}
tspctl/owner: {{ include "tsp.run.owner" . | quote }}
{{- with .Values.gpuResource }}
# What tspctl plans with.
tspctl/gpu-resource: {{ . | quote }}
tspctl/memory-label: {{ include "tsp.gpu.memoryLabel" $ | quote }}
{{- end }}
{{- if gt (int .Values.gpusPerPod) 1 }}
tspctl/ranks-per-pod: {{ int .Values.gpusPerPod | quote }}
{{- end }}
{{- with .Values.annotations }}
{{ include "tsp.texts" . | trim }}
{{- end }}
{{- end -}}
