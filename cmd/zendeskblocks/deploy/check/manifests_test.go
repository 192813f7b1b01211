package check

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// deployed are the objects that the manifests make.
type deployed struct {
	objects []runtime.Object
	names   map[string]bool // "Kind name"
}

// The folders of manifests: one pod with its volume, and several replicas over a database. What is for browsers is put to either.
const (
	onePod   = "kubernetes"
	replicas = "kubernetes-replicas"
	browsers = "-web"
)

// eachVariant runs a test for each of them, without browsers and with them.
func eachVariant(t *testing.T, test func(t *testing.T, variant string)) {
	for _, variant := range []string{onePod, replicas, onePod + browsers, replicas + browsers} {
		t.Run(variant, func(t *testing.T) { test(t, variant) })
	}
}

// rendered builds the kustomization of a variant, as kubectl apply -k does, with secrets that an operator has put in place, and reads what
// comes of it by Kubernetes' own types: a field that they do not have is refused.
func rendered(t *testing.T, variant string) deployed {
	t.Helper()
	base, forBrowsers := strings.CutSuffix(variant, browsers)
	folder := filepath.Join(t.TempDir(), base)
	must(t, os.CopyFS(folder, os.DirFS("../"+base)))
	if forBrowsers {
		must(t, os.CopyFS(filepath.Join(folder, "../kubernetes-web"), os.DirFS("../kubernetes-web")))
		told, err := os.ReadFile(filepath.Join(folder, "kustomization.yaml"))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(folder, "kustomization.yaml"), bytes.Replace(told, []byte("\n# components:"), []byte("\ncomponents:"), 1), 0o600))
	}
	must(t, os.MkdirAll(filepath.Join(folder, "secrets"), 0o700))
	for _, name := range []string{"keyset.json", "tokens.jsonl", "backup.token", "database.password", "database-ca.crt"} {
		must(t, os.WriteFile(filepath.Join(folder, "secrets", name), []byte("x"), 0o600))
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	must(t, err)
	text, err := built.AsYaml()
	must(t, err)

	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme} {
		must(t, add(scheme))
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	d := deployed{names: map[string]bool{}}
	for documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return d
		}
		must(t, err)
		object, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		named, ok := object.(metav1.Object)
		if !ok {
			t.Fatalf("%T has no name", object)
		}
		d.objects = append(d.objects, object)
		d.names[kind.Kind+" "+named.GetName()] = true
		if kind.Kind != "Namespace" && named.GetNamespace() != "zendeskblocks" {
			t.Errorf("%s %s is in the namespace %q", kind.Kind, named.GetName(), named.GetNamespace())
		}
	}
}

func only[T runtime.Object](t *testing.T, d deployed) T {
	t.Helper()
	var found []T
	for _, object := range d.objects {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("there are %d of %T", len(found), *new(T))
	}
	return found[0]
}

// pods are the templates of the pods that come of it, by what makes them.
func (d deployed) pods() map[string]corev1.PodTemplateSpec {
	pods := map[string]corev1.PodTemplateSpec{}
	for _, object := range d.objects {
		switch o := object.(type) {
		case *appsv1.StatefulSet:
			pods["service"] = o.Spec.Template
		case *appsv1.Deployment:
			pods["service"] = o.Spec.Template
		case *batchv1.CronJob:
			pods["backup"] = o.Spec.JobTemplate.Spec.Template
		case *batchv1.Job:
			pods["migrate"] = o.Spec.Template
		}
	}
	return pods
}

// The pods are what the strictest of Kubernetes' profiles asks for, and what they mount is there.
func TestPods(t *testing.T) { eachVariant(t, testPods) }

func testPods(t *testing.T, variant string) {
	d := rendered(t, variant)
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	must(t, err)
	madeByHand := []string{"Secret zendeskblocks-tls"}
	for name, pod := range d.pods() {
		restricted := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
		for _, result := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				t.Errorf("%s: %s: %s", name, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
		if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
			t.Errorf("%s may speak to Kubernetes", name)
		}
		volumes := map[string]bool{}
		for _, volume := range pod.Spec.Volumes {
			volumes[volume.Name] = true
			source := ""
			switch {
			case volume.Secret != nil:
				source = "Secret " + volume.Secret.SecretName
				if mode := volume.Secret.DefaultMode; mode == nil || *mode != 0o440 {
					t.Errorf("%s: %s would be refused for its mode", name, source)
				}
			case volume.ConfigMap != nil:
				source = "ConfigMap " + volume.ConfigMap.Name
			case volume.PersistentVolumeClaim != nil:
				source = "PersistentVolumeClaim " + volume.PersistentVolumeClaim.ClaimName
			default:
				t.Errorf("%s: volume %s is of no kind that is looked at", name, volume.Name)
			}
			if !d.names[source] && !slices.Contains(madeByHand, source) {
				t.Errorf("%s mounts %s, which nobody makes", name, source)
			}
		}
		if name == "service" && strings.TrimSuffix(variant, browsers) == onePod {
			for _, claim := range only[*appsv1.StatefulSet](t, d).Spec.VolumeClaimTemplates {
				volumes[claim.Name] = true
			}
		}
		for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			if security := container.SecurityContext; security == nil || security.ReadOnlyRootFilesystem == nil || !*security.ReadOnlyRootFilesystem {
				t.Errorf("%s: %s may write its image", name, container.Name)
			}
			for _, mount := range container.VolumeMounts {
				if !volumes[mount.Name] {
					t.Errorf("%s: %s mounts %s, which is no volume", name, container.Name, mount.Name)
				}
			}
		}
	}
}

// Who selects pods selects some.
func TestSelectors(t *testing.T) { eachVariant(t, testSelectors) }

func testSelectors(t *testing.T, variant string) {
	d := rendered(t, variant)
	pods := d.pods()
	selectors := map[string]*metav1.LabelSelector{
		"PodDisruptionBudget": only[*policyv1.PodDisruptionBudget](t, d).Spec.Selector,
	}
	ports := map[string]bool{}
	for _, port := range pods["service"].Spec.Containers[0].Ports {
		ports[port.Name] = true
	}
	known := func(who string, port intstr.IntOrString) {
		if port.Type == intstr.String && !ports[port.StrVal] {
			t.Errorf("%s names the port %s, and the pod has none of that name", who, port.StrVal)
		}
	}
	for _, object := range d.objects {
		switch o := object.(type) {
		case *appsv1.StatefulSet:
			selectors["StatefulSet"] = o.Spec.Selector
		case *appsv1.Deployment:
			selectors["Deployment"] = o.Spec.Selector
			for _, term := range o.Spec.Template.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
				selectors["anti-affinity"] = term.LabelSelector
			}
			for _, spread := range o.Spec.Template.Spec.TopologySpreadConstraints {
				selectors["topology spread"] = spread.LabelSelector
			}
		case *corev1.Service:
			selectors["Service "+o.Name] = &metav1.LabelSelector{MatchLabels: o.Spec.Selector}
			for _, port := range o.Spec.Ports {
				known("Service "+o.Name, port.TargetPort)
			}
		case *networkingv1.NetworkPolicy:
			who := "NetworkPolicy " + o.Name
			selectors[who] = &o.Spec.PodSelector
			allowed := []networkingv1.NetworkPolicyPort{}
			for _, rule := range o.Spec.Ingress {
				allowed = append(allowed, rule.Ports...)
				if len(rule.From) == 0 || len(rule.Ports) == 0 {
					t.Errorf("%s lets everyone in", who)
				}
				for _, from := range rule.From {
					if from.PodSelector != nil {
						selectors[who+" from"] = from.PodSelector
					}
				}
			}
			for _, rule := range o.Spec.Egress {
				allowed = append(allowed, rule.Ports...)
				if len(rule.To) == 0 || len(rule.Ports) == 0 {
					t.Errorf("%s lets everything out", who)
				}
				for _, to := range rule.To {
					if to.PodSelector != nil {
						selectors[who+" to"] = to.PodSelector
					}
				}
			}
			for _, port := range allowed {
				known(who, *port.Port)
			}
		}
	}
	for who, selector := range selectors {
		s, err := metav1.LabelSelectorAsSelector(selector)
		must(t, err)
		matched := 0
		for _, pod := range pods {
			if s.Matches(labels.Set(pod.Labels)) {
				matched++
			}
		}
		if matched != 1 {
			t.Errorf("%s selects %d pods", who, matched)
		}
	}
}

// One process serves a data file. Its pod has a name of its own.
func TestOnePod(t *testing.T) {
	d := rendered(t, onePod)
	set := only[*appsv1.StatefulSet](t, d)
	if set.Spec.ServiceName != "zendeskblocks-headless" || !d.names["Service "+set.Spec.ServiceName] {
		t.Errorf("the pod's names would come from the service %q", set.Spec.ServiceName)
	}
	if *set.Spec.Replicas != 1 {
		t.Errorf("%d processes would share a data file", *set.Spec.Replicas)
	}
}

// Whatever takes one replica away, all but one are left: a lost node, a drained one, a roll-out. The data is in the database that
// was migrated, and callers are told of replicas that are ready alone.
func TestReplicas(t *testing.T) {
	d := rendered(t, replicas)
	deployment, budget := only[*appsv1.Deployment](t, d), only[*policyv1.PodDisruptionBudget](t, d)
	update := deployment.Spec.Strategy.RollingUpdate
	if n := *deployment.Spec.Replicas; n < 3 || update.MaxUnavailable.IntValue() != 1 || update.MaxSurge.IntValue() != 0 || budget.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("of %d replicas %v may go at a time, with %v more, and by evictions %v", n, update.MaxUnavailable, update.MaxSurge, budget.Spec.MaxUnavailable)
	}
	terms := deployment.Spec.Template.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if len(terms) != 1 || terms[0].TopologyKey != corev1.LabelHostname {
		t.Errorf("replicas may share a node: %v", terms)
	}
	text, err := os.ReadFile("../" + replicas + "/config.yaml")
	must(t, err)
	var config map[string]any
	must(t, yaml.UnmarshalStrict(text, &config))
	args := only[*batchv1.Job](t, d).Spec.Template.Spec.Containers[0].Args
	want := []string{"migrate"}
	for _, flag := range []string{"store", "store-password-file", "key-file"} {
		value, _ := config[flag].(string)
		want = append(want, "--"+flag, value)
	}
	if !slices.Equal(args, want) {
		t.Errorf("the job runs %q, and serve has %q", args, want)
	}
	ready := false
	for _, object := range d.objects {
		if service, ok := object.(*corev1.Service); ok && service.Name == "zendeskblocks-replicas" {
			ready = service.Spec.ClusterIP == corev1.ClusterIPNone && !service.Spec.PublishNotReadyAddresses
		}
	}
	if !ready {
		t.Error("no service has the addresses of the replicas that are ready")
	}
}

// What stands in two places agrees: memory, ports, times.
func TestLimitsAgree(t *testing.T) { eachVariant(t, testLimitsAgree) }

func testLimitsAgree(t *testing.T, variant string) {
	pod := rendered(t, variant).pods()["service"]
	container := pod.Spec.Containers[0]
	text, err := os.ReadFile("../" + strings.TrimSuffix(variant, browsers) + "/config.yaml")
	must(t, err)
	var config map[string]any
	must(t, yaml.UnmarshalStrict(text, &config))

	limit := container.Resources.Limits.Memory().Value()
	soft := int64(0)
	for _, variable := range container.Env {
		if variable.Name == "GOMEMLIMIT" {
			mib, err := strconv.ParseInt(strings.TrimSuffix(variable.Value, "MiB"), 10, 64)
			must(t, err)
			soft = mib << 20
		}
		if flag, found := strings.CutPrefix(variable.Name, "ZENDESKBLOCKS_"); found {
			config[strings.ToLower(strings.ReplaceAll(flag, "_", "-"))] = variable.Value
		}
	}
	if soft*100 < limit*80 || soft*100 > limit*95 {
		t.Errorf("GOMEMLIMIT is %d of the limit of %d bytes", soft, limit)
	}

	drain := time.Duration(0)
	for _, flag := range []string{"drain-delay", "drain-timeout"} {
		value, _ := config[flag].(string)
		d, err := time.ParseDuration(value)
		must(t, err)
		drain += d
	}
	if grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second; grace < drain+10*time.Second {
		t.Errorf("the pod has %v to end, and draining takes %v", grace, drain)
	}

	listened := map[string]string{"grpc": "listen", "admin": "admin-listen", "web": "web-listen"}
	for _, port := range container.Ports {
		if address := config[listened[port.Name]]; address != "0.0.0.0:"+strconv.Itoa(int(port.ContainerPort)) {
			t.Errorf("port %s is %d, and the service listens on %v", port.Name, port.ContainerPort, address)
		}
	}
	for _, probe := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Port.StrVal != "admin" {
			t.Errorf("a probe does not ask the admin listener: %v", probe)
		}
	}
	mounts := map[string]bool{}
	for _, mount := range container.VolumeMounts {
		mounts[mount.MountPath] = true
	}
	for _, flag := range []string{"data", "store-password-file", "key-file", "token-file", "tls-cert", "tls-key"} {
		path, named := config[flag].(string)
		if named && !mounts[filepath.Dir(path)] {
			t.Errorf("--%s is %q, where nothing is mounted", flag, path)
		}
	}
	if !mounts[filepath.Dir(container.Args[2])] || container.Args[1] != "--config" {
		t.Errorf("the arguments are %q", container.Args)
	}
}

// Browsers come by the name that the service has for itself, in TLS, to its port for them.
func TestBrowsers(t *testing.T) {
	for _, variant := range []string{onePod + browsers, replicas + browsers} {
		d := rendered(t, variant)
		ingress, place := only[*networkingv1.Ingress](t, d), ""
		for _, variable := range d.pods()["service"].Spec.Containers[0].Env {
			if variable.Name == "ZENDESKBLOCKS_WEB_URL" {
				place = variable.Value
			}
		}
		rules, secured := ingress.Spec.Rules, ingress.Spec.TLS
		if len(rules) != 1 || place != "https://"+rules[0].Host || len(secured) != 1 || !slices.Equal(secured[0].Hosts, []string{rules[0].Host}) {
			t.Fatalf("%s: browsers go to %v, in TLS to %v, and the service takes them from %q", variant, rules, secured, place)
		}
		backend := rules[0].HTTP.Paths[0].Backend.Service
		found := slices.ContainsFunc(d.objects, func(object runtime.Object) bool {
			service, ok := object.(*corev1.Service)
			return ok && service.Name == backend.Name && slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool {
				return p.Name == backend.Port.Name && p.TargetPort.StrVal == "web"
			})
		})
		if !found {
			t.Errorf("%s: no service is %v", variant, backend)
		}
	}
}

// Images of others are named by their digests.
func TestDigests(t *testing.T) {
	pinned := regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)
	for name, pod := range rendered(t, onePod).pods() {
		for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			if !strings.HasPrefix(container.Image, "registry.example.com/zendeskblocks:") && !pinned.MatchString(container.Image) {
				t.Errorf("%s: image %s has no digest", name, container.Image)
			}
		}
	}
}

// The ServiceMonitor is of a kind that is not in Kubernetes' own types: it finds the port of a service.
func TestServiceMonitor(t *testing.T) { eachVariant(t, testServiceMonitor) }

func testServiceMonitor(t *testing.T, variant string) {
	text, err := os.ReadFile("../kubernetes/servicemonitor.yaml")
	must(t, err)
	var monitor struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			JobLabel  string               `json:"jobLabel"`
			Selector  metav1.LabelSelector `json:"selector"`
			Endpoints []struct{ Port, Path, Interval string }
		} `json:"spec"`
	}
	must(t, yaml.UnmarshalStrict(text, &monitor))
	selector, err := metav1.LabelSelectorAsSelector(&monitor.Spec.Selector)
	must(t, err)
	found := 0
	for _, object := range rendered(t, variant).objects {
		service, ok := object.(*corev1.Service)
		if !ok || !selector.Matches(labels.Set(service.Labels)) {
			continue
		}
		found++
		if service.Labels[monitor.Spec.JobLabel] != "zendeskblocks" {
			t.Errorf("the job would be %q", service.Labels[monitor.Spec.JobLabel])
		}
		for _, endpoint := range monitor.Spec.Endpoints {
			if !slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == endpoint.Port }) {
				t.Errorf("service %s has no port %s", service.Name, endpoint.Port)
			}
		}
	}
	if found != 1 {
		t.Errorf("it selects %d services", found)
	}
}
