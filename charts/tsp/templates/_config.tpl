{{/*
tsp.store.settings: JSON of what tsp.config.run calls StoreConfig. No credential is in it.
*/}}
{{- define "tsp.store.settings" -}}
{{- if .Values.config -}}
{{- (fromJson .Values.config).store | toJson -}}
{{- else -}}
{{- $store := dict "uri" .Values.store.uri "path_style" .Values.store.pathStyle "checksums" .Values.store.checksums -}}
{{- with .Values.store.endpointUrl -}}{{- $_ := set $store "endpoint_url" . -}}{{- end -}}
{{- with .Values.store.region -}}{{- $_ := set $store "region" . -}}{{- end -}}
{{- if .Values.store.caConfigMap -}}{{- $_ := set $store "ca_bundle" (include "tsp.store.caPath" .) -}}{{- end -}}
{{- toJson $store -}}
{{- end -}}
{{- end -}}

{{/* tsp.store.caPath: where the store's certificate authority lies in a pod. */}}
{{- define "tsp.store.caPath" -}}
/etc/tsp-ca/{{ .Values.store.caKey }}
{{- end -}}

{{/* tsp.data.root: what the data set's paths are relative to, as pods see it; empty leaves it to the data-set file. */}}
{{- define "tsp.data.root" -}}
{{- .Values.data.uri | default (ternary .Values.data.mountPath "" (not (empty .Values.data.claim))) -}}
{{- end -}}

{{/*
tsp.config.json: the text pods read. In rising order of ceremony: a job's request, the whole configuration as tspctl
sends it (untouched), or a request that pods resolve through tsp.config.pod_request.
*/}}
{{- define "tsp.config.json" -}}
{{- if and (eq .Values.gang "kueue") (not .Values.queue) -}}
{{- fail "gang is kueue, but queue is empty: set queue to the name of a LocalQueue" -}}
{{- end -}}
{{- if ne .Values.job.kind "train" -}}
{{- required "job.request is empty: give the job's request as JSON text" .Values.job.request -}}
{{- else if .Values.config -}}
{{- include "tsp.config.check" . -}}
{{- .Values.config -}}
{{- else -}}
{{- dict "request" (include "tsp.config.request" . | fromJson) | toPrettyJson -}}
{{- end -}}
{{- end -}}

{{/* tsp.config.check: refuses a configuration that belongs to another run, and so to another release. */}}
{{- define "tsp.config.check" -}}
{{- $config := fromJson .Values.config -}}
{{- with $config.Error -}}{{- fail (printf "config is not JSON: %s" .) -}}{{- end -}}
{{- if ne ($config.name | toString) (include "tsp.run.name" .) -}}
{{- fail (printf "config.name is %q, but the release is %q: a release is a run, give both the same name" ($config.name | toString) .Release.Name) -}}
{{- end -}}
{{- if ne (int $config.gpus) (int .Values.gpus) -}}
{{- fail (printf "config.gpus is %d, but gpus is %d" (int $config.gpus) (int .Values.gpus)) -}}
{{- end -}}
{{- $same := dict "method" "method" "downscale" "downscale" "dataset" "data.name" "backbone" "model.backbone" "gvf" "model.gvf" "pretrained" "model.pretrained" "precision" "model.precision" "epochs" "schedule.epochs" -}}
{{- range $key, $path := $same -}}
{{- $value := get $.Values $key -}}
{{- $there := $config -}}
{{- range splitList "." $path -}}{{- $there = get ($there | default dict) . -}}{{- end -}}
{{- if and $value (not (has $there (list nil ""))) (ne ($value | toString) ($there | toString)) -}}
{{- fail (printf "%s is %v, but config.%s is %v: config is the whole configuration (with tspctl, change it by an option or --set)" $key $value $path $there) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "heads" "set" "gpuMemory" "lookupNodes" -}}
{{- if get $.Values $key -}}
{{- fail (printf "%s has no effect beside config, which is the whole configuration (with tspctl, change it by an option or --set)" $key) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "endpointUrl" "region" -}}
{{- if get $.Values.store $key -}}
{{- fail (printf "store.%s has no effect beside config, which contains the store's settings (with tspctl, set endpoint_url_in_cluster or region)" $key) -}}
{{- end -}}
{{- end -}}
{{- if .Values.data.uri -}}
{{- fail "data.uri has no effect beside config, which contains the data set's folder (with tspctl, give --data)" -}}
{{- end -}}
{{- end -}}

{{/* tsp.config.refuseSecret: refuses a configuration with a user or password in an address. Argument: its text. */}}
{{- define "tsp.config.refuseSecret" -}}
{{- if regexMatch "[A-Za-z][A-Za-z0-9+.-]*://[^/?#\"\\s]*@" . -}}
{{- fail "an address in the configuration contains a user name or password: anyone who may read the ConfigMap would see it; give credentials in store.existingSecret" -}}
{{- end -}}
{{- end -}}

{{/*
tsp.config.refuseChange: refuses to upgrade a run to another configuration, before Helm sends anything: the API server
would refuse the ConfigMap only after the job was changed already.
*/}}
{{- define "tsp.config.refuseChange" -}}
{{- if .Release.IsUpgrade -}}
{{- $there := lookup "v1" "ConfigMap" .Release.Namespace (include "tsp.config.name" .) -}}
{{- if $there -}}
{{- $text := get ($there.data | default dict) "config.json" -}}
{{- if ne (trim $text) (include "tsp.config.json" . | trim) -}}
{{- fail (printf "%s is immutable: a run keeps the configuration it was started with; install another release instead of upgrading %s" (include "tsp.config.name" .) .Release.Name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
tsp.config.checkSet: refuses keys of `set` that would contradict what the rest of the chart makes of other values (the
pods' number, where tspctl looks for results), and whole numbers that Helm has rounded.
*/}}
{{- define "tsp.config.checkSet" -}}
{{- $instead := dict "name" "the release's name" "gpus" "gpus" "downscale" "downscale" "method" "method" "data.name" "dataset" -}}
{{- range $key, $value := .Values.set -}}
{{- with ternary "the values below store" (get $instead $key) (hasPrefix "store." $key) -}}
{{- fail (printf "set contains %s, on which other parts of the run depend: use %s instead" $key .) -}}
{{- end -}}
{{- if and (has (kindOf $value) (list "float64" "int64" "int")) (ge (float64 $value) 9007199254740992.0) -}}
{{- fail (printf "set contains %s with a number that Helm rounds: use one below 2^53" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* tsp.config.request: JSON of what tsp.config.pod_request.Request reads. */}}
{{- define "tsp.config.request" -}}
{{- $plan := include "tsp.gpu.plan" . | fromJson -}}
{{- $request := dict
  "name" (include "tsp.run.name" .)
  "dataset" (required "dataset is empty: set it to thumos14, activitynet, demo or a .yaml file in the pod" .Values.dataset)
  "method" (required "method is empty: set it to tsp or tac" .Values.method)
  "gpus" (int .Values.gpus)
  "downscale" $plan.downscale
  "store" (include "tsp.store.settings" . | fromJson) -}}
{{- if not (regexMatch "^(activitynet|demo|thumos14)$|[.]ya?ml$" .Values.dataset) -}}
{{- fail (printf "unknown dataset %q: use thumos14, activitynet, demo, or the path of a .yaml file in the pod" .Values.dataset) -}}
{{- end -}}
{{- $_ := required "store.uri is empty: set it to s3://bucket/prefix" .Values.store.uri -}}
{{- with include "tsp.data.root" . -}}{{- $_ := set $request "data" . -}}{{- end -}}
{{- with .Values.heads -}}{{- $_ := set $request "heads" . -}}{{- end -}}
{{- with .Values.gvf -}}{{- $_ := set $request "gvf" . -}}{{- end -}}
{{- include "tsp.config.checkSet" . -}}
{{- $set := dict -}}
{{- with .Values.backbone -}}{{- $_ := set $set "model.backbone" . -}}{{- end -}}
{{- with .Values.pretrained -}}{{- $_ := set $set "model.pretrained" . -}}{{- end -}}
{{- with .Values.precision -}}{{- $_ := set $set "model.precision" . -}}{{- end -}}
{{- with .Values.epochs -}}{{- $_ := set $set "schedule.epochs" (int .) -}}{{- end -}}
{{- if hasPrefix "s3://" .Values.data.uri -}}{{- $_ := set $set "data.cache_dir" "/cache/videos" -}}{{- end -}}
{{- with merge (deepCopy (.Values.set | default dict)) $set -}}{{- $_ := set $request "set" . -}}{{- end -}}
{{- toJson $request -}}
{{- end -}}
