// Uploads 20 MB without Expect; prints the status and the length of the content.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	body := bytes.NewReader(make([]byte, 20_000_000))
	request, err := http.NewRequest("PUT", os.Args[1]+"/healthz", body)
	if err != nil {
		panic(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	content, err := io.ReadAll(response.Body)
	if err != nil {
		panic(err)
	}
	fmt.Println(response.StatusCode, len(content))
}
