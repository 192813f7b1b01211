package recordset_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/scenarioblocks/zendeskblocks/server/recordset"
)

// oracle is Flatten by way of the record's whole tree, and without a bound on the number of columns.
type oracle map[string]string

func flattenTree(record []byte, columns []string) oracle {
	dec := json.NewDecoder(bytes.NewReader(record))
	dec.UseNumber()
	var top map[string]any
	if dec.Decode(&top) != nil {
		return nil
	}
	if custom, ok := top["custom_fields"].([]any); ok {
		delete(top, "fields")
		if byID, ok := oracleByID(custom); ok {
			top["custom_fields"] = byID
		}
	}
	o := make(oracle)
	o.add("", top, 0)
	maps.DeleteFunc(o, func(name, _ string) bool {
		return len(columns) > 0 && !slices.ContainsFunc(columns, func(column string) bool {
			return name == column || strings.HasPrefix(name, column+".")
		})
	})
	return o
}

func oracleByID(fields []any) (map[string]any, bool) {
	byID := make(map[string]any)
	for _, field := range fields {
		object, _ := field.(map[string]any)
		switch id := object["id"].(type) {
		case json.Number:
			byID[id.String()] = object["value"]
		case string:
			byID[id] = object["value"]
		default:
			return nil, false
		}
	}
	return byID, len(fields) > 0
}

func (o oracle) add(name string, value any, depth int) {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			o.addMember(name, key, value[key], depth)
		}
	case []any:
		var texts []string
		for _, element := range value {
			if text, ok := oracleScalar(element); ok {
				texts = append(texts, text)
			}
		}
		if len(texts) == len(value) {
			o[name] = strings.Join(texts, ",")
			return
		}
		for i, element := range value {
			o.addMember(name, strconv.Itoa(i), element, depth)
		}
	default:
		o[name], _ = oracleScalar(value)
	}
}

func (o oracle) addMember(name, key string, value any, depth int) {
	if depth > 0 {
		key = name + "." + key
	}
	if depth < recordset.MaxDepth && len(key) <= recordset.MaxColumnBytes {
		o.add(key, value, depth+1)
	}
}

func oracleScalar(value any) (string, bool) {
	switch value := value.(type) {
	case nil:
		return "", true
	case string:
		return value, true
	case json.Number:
		return value.String(), true
	case bool:
		return strconv.FormatBool(value), true
	}
	return "", false
}
