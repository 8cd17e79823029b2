// A reader of JSON bodies as an API in Go is one: encoding/json into a struct, whose names it
// matches whatever their case, and into a map for the names that there are. A line of base64 comes
// in; a line of JSON goes out, null where Go does not read the body.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"sort"
)

type request struct {
	Model         json.RawMessage `json:"model"`
	MaxTokens     json.RawMessage `json:"max_tokens"`
	Temperature   json.RawMessage `json:"temperature"`
	StreamOptions struct {
		IncludeUsage json.RawMessage `json:"include_usage"`
	} `json:"stream_options"`
	Messages []struct {
		Role json.RawMessage `json:"role"`
	} `json:"messages"`
	Tools json.RawMessage `json:"tools"`
}

func read(body []byte) any {
	var names map[string]json.RawMessage
	if json.Unmarshal(body, &names) != nil {
		return nil
	}
	var found request
	if json.Unmarshal(body, &found) != nil {
		return nil
	}
	values := map[string]json.RawMessage{
		"model":         found.Model,
		"max_tokens":    found.MaxTokens,
		"temperature":   found.Temperature,
		"include_usage": found.StreamOptions.IncludeUsage,
		"tools":         found.Tools,
	}
	if len(found.Messages) > 0 {
		values["role"] = found.Messages[0].Role
	}
	for name, value := range values {
		if value == nil {
			delete(values, name)
		}
	}
	list := []string{}
	for name := range names {
		list = append(list, name)
	}
	sort.Strings(list)
	return map[string]any{"values": values, "names": list}
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		body, err := base64.StdEncoding.DecodeString(line[:len(line)-1])
		if err != nil {
			panic(err)
		}
		answer, err := json.Marshal(read(body))
		if err != nil {
			panic(err)
		}
		fmt.Println(string(answer))
	}
}
