{{/*
tsp.pod.template: the pod of a rank or of a shard. Arguments: root, container (its name: the operator insists on
"pytorch"), command (a list), gpu (whether it holds one).
*/}}
{{- define "tsp.pod.template" -}}
{{- $ := .root -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- include "tsp.run.labels" $ | nindent 4 }}
    {{- with $values.podLabels }}
    {{- include "tsp.texts" . | trim | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ .container }}
    {{- with $values.podAnnotations }}
    {{- include "tsp.texts" . | trim | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tsp.serviceAccount.name" $ | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- if .restartPolicy }}
  restartPolicy: {{ .restartPolicy }}
  {{- end }}
  terminationGracePeriodSeconds: {{ int $values.gracePeriodSeconds }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- include "tsp.pod.placement" . | trim | nindent 2 }}
  containers:
    - name: {{ .container }}
      image: {{ include "tsp.image.ref" $ | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      # The last words of a rank that failed; tspctl status shows them.
      terminationMessagePolicy: FallbackToLogsOnError
      command:
        {{- toYaml .command | nindent 8 }}
      env:
        {{- include "tsp.pod.env" $ | nindent 8 }}
        {{- if and .gpu $values.gpuResource $values.requireGpu }}
        # Then the CPU is no substitute: a pod that finds no usable GPU ends and says why.
        - name: TSP_NEEDS_GPU
          value: "1"
        {{- end }}
      {{- with $values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- include "tsp.pod.resources" . | nindent 8 }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      volumeMounts:
        {{- include "tsp.pod.mounts" $ | nindent 8 }}
  volumes:
    {{- include "tsp.pod.volumes" $ | nindent 4 }}
{{- end -}}

{{/*
tsp.pod.requests: JSON of what a pod asks for where the values do not say: a training rank one CPU more than it has data
workers, and memory for its /dev/shm, which counts as the container's.
*/}}
{{- define "tsp.pod.requests" -}}
{{- if eq .Values.job.kind "train" -}}
{{- $workers := get .Values.set "data.workers" | default 4 -}}
{{- if .Values.config -}}{{- $workers = dig "data" "workers" 4 (fromJson .Values.config) -}}{{- end -}}
{{- $shmMib := include "tsp.gpu.memoryMib" .Values.shm.sizeLimit | int64 -}}
{{- dict "cpu" (add (int $workers) 1 | toString) "memory" (printf "%dMi" (add $shmMib 2048)) | toJson -}}
{{- else -}}
{{- dict "cpu" "500m" "memory" "2Gi" | toJson -}}
{{- end -}}
{{- end -}}

{{/* tsp.pod.resources: requests and limits; a GPU is always a limit, and always one. A limit is a request, too. */}}
{{- define "tsp.pod.resources" -}}
{{- $resources := deepCopy .root.Values.resources -}}
{{- $requests := get $resources "requests" | default dict -}}
{{- range $key, $value := include "tsp.pod.requests" .root | fromJson -}}
{{- if not (or (get $requests $key) (get (get $resources "limits" | default dict) $key)) -}}
{{- $_ := set $requests $key $value -}}
{{- end -}}
{{- end -}}
{{- $_ := set $resources "requests" $requests -}}
{{- if and .gpu .root.Values.gpuResource -}}
{{- $resources = merge (dict "limits" (dict .root.Values.gpuResource "1")) $resources -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* tsp.pod.env: environment of a container. Credentials come from an existing Secret and nowhere else. */}}
{{- define "tsp.pod.env" -}}
{{- $store := .Values.store -}}
- name: TSP_CONFIG
  value: /etc/tsp/config.json
- name: HOME
  value: /tmp
- name: XDG_CACHE_HOME
  value: /cache
- name: TORCH_HOME
  value: /cache/torch
{{- if $store.caConfigMap }}
- name: AWS_CA_BUNDLE
  value: {{ include "tsp.store.caPath" . | quote }}
{{- end }}
{{- with .Values.numThreads }}
- name: TSP_NUM_THREADS
  value: {{ int . | quote }}
{{- end }}
{{- if ne .Values.job.kind "train" }}
- name: TSP_NUM_SHARDS
  value: {{ int .Values.job.shards | quote }}
{{- end }}
{{- with $store.existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: {{ $store.secretKeys.accessKeyId | quote }}}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: {{ $store.secretKeys.secretAccessKey | quote }}}}
- name: AWS_SESSION_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: {{ $store.secretKeys.sessionToken | quote }}, optional: true}}
{{- end }}
{{- range .Values.extraEnv }}
{{- $text := .value | default "" | toString }}
{{- if and $text (not (hasPrefix "/" $text)) (regexMatch "(?i)(^|_)(TOKEN|SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIALS?|API_?KEY|ACCESS_KEY(_ID)?|(SECRET|PRIVATE)_KEY)$" .name) }}
{{- fail (printf "extraEnv holds %s in clear: name a Secret in store.existingSecret or extraEnvFrom, or use valueFrom" .name) }}
{{- end }}
{{- if regexMatch "^[A-Za-z][A-Za-z0-9+.-]*://[^/]*@" $text }}
{{- fail (printf "the address in extraEnv %s holds a user or password: use valueFrom with a Secret" .name) }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ include "tsp.items.withText" (dict "items" . "key" "value") }}
{{- end }}
{{- end -}}

{{/* tsp.pod.mounts: the root file system is read-only, so everything that is written has a volume. */}}
{{- define "tsp.pod.mounts" -}}
- {name: config, mountPath: /etc/tsp, readOnly: true}
- {name: shm, mountPath: /dev/shm}
- {name: tmp, mountPath: /tmp}
- {name: cache, mountPath: /cache}
{{- if .Values.data.claim }}
- {name: data, mountPath: {{ .Values.data.mountPath | quote }}, readOnly: {{ .Values.data.readOnly }}}
{{- end }}
{{- if .Values.store.caConfigMap }}
- {name: store-ca, mountPath: /etc/tsp-ca, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* tsp.pod.volumes: what tsp.pod.mounts mounts. */}}
{{- define "tsp.pod.volumes" -}}
- name: config
  configMap: {name: {{ include "tsp.config.name" . | quote }}}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .Values.shm.sizeLimit | quote }}}
- name: tmp
  emptyDir: {{ ternary (dict "sizeLimit" .Values.tmp.sizeLimit) dict (not (empty .Values.tmp.sizeLimit)) | toJson }}
- name: cache
{{- if .Values.cache.claim }}
  persistentVolumeClaim: {claimName: {{ .Values.cache.claim | quote }}}
{{- else }}
  emptyDir: {{ ternary (dict "sizeLimit" .Values.cache.sizeLimit) dict (not (empty .Values.cache.sizeLimit)) | toJson }}
{{- end }}
{{- with .Values.data.claim }}
- name: data
  persistentVolumeClaim: {claimName: {{ . | quote }}}
{{- end }}
{{- with .Values.store.caConfigMap }}
- name: store-ca
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
