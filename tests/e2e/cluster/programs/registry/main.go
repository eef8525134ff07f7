// A registry of images in memory, which pods pull from: its handlers alone, without the clouds that the whole program can store in.
package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

func main() {
	config := &configuration.Configuration{Storage: configuration.Storage{"inmemory": nil}}
	log.Fatal(http.ListenAndServe(os.Args[1], handlers.NewApp(context.Background(), config)))
}
