{{/* tsp.refuse: refuses values that would have no effect, or would break what the chart itself sets. */}}
{{- define "tsp.refuse" -}}
{{- if and .Chart.IsRoot .Values.global -}}
{{- fail "global has no effect: it is for charts that contain this one" -}}
{{- end -}}
{{- include "tsp.refuse.ownKeys" . -}}
{{- include "tsp.refuse.ownVariables" . -}}
{{- include "tsp.refuse.otherKinds" . -}}
{{- end -}}

{{/* tsp.refuse.ownKeys: refuses labels and annotations that the chart sets, by which tspctl finds and reads runs. */}}
{{- define "tsp.refuse.ownKeys" -}}
{{- $labels := "^(app[.]kubernetes[.]io/(name|instance|part-of|component|version|managed-by)|helm[.]sh/chart)$" -}}
{{- $annotations := "^(tspctl/|kubectl[.]kubernetes[.]io/default-container$)" -}}
{{- $own := dict "labels" $labels "podLabels" $labels "annotations" $annotations "podAnnotations" $annotations -}}
{{- range $group, $pattern := $own -}}
{{- range $key, $_ := get $.Values $group | default dict -}}
{{- if regexMatch $pattern $key -}}
{{- fail (printf "%s contains %s, which the chart itself sets, so that tspctl finds the run: leave it out" $group $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* tsp.refuse.ownVariables: refuses variables that the chart or an operator sets for each rank, as `submit --env` does. */}}
{{- define "tsp.refuse.ownVariables" -}}
{{- range .Values.extraEnv -}}
{{- if regexMatch "^(RANK|WORLD_SIZE|LOCAL_RANK|MASTER_(ADDR|PORT)|PET_.*|TSP_.*|HOME|CUDA_VISIBLE_DEVICES)$" .name -}}
{{- fail (printf "extraEnv contains %s, which is set for each rank and cannot be overridden" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
tsp.refuse.otherKinds: refuses what training is told where an auxiliary job is made, and the reverse. Only what cannot be
meant for all releases of a site.
*/}}
{{- define "tsp.refuse.otherKinds" -}}
{{- $job := .Values.job -}}
{{- if eq $job.kind "train" -}}
{{- range $key, $given := dict "request" $job.request "gpu" $job.gpu "shards" (ne (int $job.shards) 1) -}}
{{- if $given -}}
{{- fail (printf "job.%s has no effect on training: set job.kind to the job that is meant" $key) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- $training := list "dataset" "method" "heads" "gvf" "backbone" "epochs" "pretrained" "precision" "set" "config" "gpuMemory" "lookupNodes" -}}
{{- range $key := $training -}}
{{- if get $.Values $key -}}
{{- fail (printf "%s has no effect on job.kind %s: put it into job.request, or leave it out" $key $job.kind) -}}
{{- end -}}
{{- end -}}
{{- $given := dict "gpus (see job.shards)" (ne (int .Values.gpus) 1) "downscale" (ne (toString .Values.downscale) "auto") "data.uri" (not (empty .Values.data.uri)) -}}
{{- range $key, $is := $given -}}
{{- if $is -}}
{{- fail (printf "%s has no effect on job.kind %s: put it into job.request, or leave it out" $key $job.kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
