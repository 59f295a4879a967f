// Command ksvccheck runs Knative Serving's own defaulting and validation over Service documents, as its
// admission webhook does at creation, without an API server. It reads YAML or JSON streams from the paths
// given or from stdin, prints one JSON array of findings (name, level, message), and exits 1 when one of
// them is an error. Called by the tests of our Knative Service builder through tests/testbed/ksvc.py.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"knative.dev/pkg/apis"
	"knative.dev/serving/pkg/apis/config"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"
)

// Finding is one complaint about one document.
type Finding struct {
	Source   string `json:"source"`
	Document int    `json:"document"`
	Name     string `json:"name"`
	Level    string `json:"level"`
	Message  string `json:"message"`
}

func main() {
	findings, err := checkAll(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "ksvccheck:", err)
		os.Exit(2)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(findings); err != nil {
		fmt.Fprintln(os.Stderr, "ksvccheck:", err)
		os.Exit(2)
	}
	for _, finding := range findings {
		if finding.Level == "error" {
			os.Exit(1)
		}
	}
}

func checkAll(paths []string) ([]Finding, error) {
	findings := []Finding{}
	if len(paths) == 0 {
		return checkStream("stdin", os.Stdin, findings)
	}
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		findings, err = checkStream(path, file, findings)
		file.Close()
		if err != nil {
			return nil, err
		}
	}
	return findings, nil
}

func checkStream(source string, stream io.Reader, findings []Finding) ([]Finding, error) {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(stream))
	for number := 0; ; number++ {
		raw, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return findings, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		if len(bytes.TrimSpace(raw)) == 0 {
			continue
		}
		for _, finding := range checkDocument(raw) {
			finding.Source, finding.Document = source, number
			findings = append(findings, finding)
		}
	}
}

func checkDocument(raw []byte) []Finding {
	var service servingv1.Service
	if err := yaml.UnmarshalStrict(raw, &service); err != nil {
		return []Finding{{Level: "error", Message: "cannot be decoded: " + err.Error()}}
	}
	if service.APIVersion != "serving.knative.dev/v1" || service.Kind != "Service" {
		got := service.APIVersion + " " + service.Kind
		return []Finding{{Name: service.Name, Level: "error", Message: "not a serving.knative.dev/v1 Service: " + got}}
	}
	background := context.Background()
	ctx := apis.WithinCreate(config.ToContext(background, config.FromContextOrDefaults(background)))
	service.SetDefaults(ctx)
	found := service.Validate(ctx)
	return append(
		listed(service.Name, "error", found.Filter(apis.ErrorLevel)),
		listed(service.Name, "warning", found.Filter(apis.WarningLevel))...,
	)
}

func listed(name, level string, found *apis.FieldError) []Finding {
	var findings []Finding
	for _, one := range found.WrappedErrors() {
		findings = append(findings, Finding{Name: name, Level: level, Message: one.Error()})
	}
	return findings
}
