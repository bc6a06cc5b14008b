// SPDX-License-Identifier: MIT

package sandbox

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// languages are the languages of Meet by the code that clients ask for.
var languages = map[string]string{"en": "en-us", "fr": "fr-fr", "nl": "nl-nl", "de": "de-de"}

const defaultLanguage = "en-us"

// translations are the recorded translations of Django REST framework's texts. Meet's own
// texts are always English, and so are texts here that were not recorded.
var translations = map[string]map[string]string{
	"fr-fr": {
		textRequired:      "Ce champ est obligatoire.",
		textNull:          "Ce champ ne peut être nul.",
		textBlank:         "Ce champ ne peut être vide.",
		textChoice:        "«\u00a0%s\u00a0» n'est pas un choix valide.",
		textString:        "Chaîne de caractère invalide.",
		textDictionary:    "Donnée non valide. Attendait un dictionnaire, a reçu %s.",
		textNotFound:      "Non trouvé.",
		textPage:          "Page non valide.",
		textMethod:        "Méthode «\u00a0%s\u00a0» non autorisée.",
		textMediaType:     "Type de média «\u00a0%s\u00a0» non supporté.",
		textAccept:        "L'en-tête « Accept » n'a pas pu être satisfaite.",
		textNoCredentials: "Informations d'authentification non fournies.",
		textPermission:    "Vous n'avez pas la permission d'effectuer cette action.",
	},
	"nl-nl": {textRequired: "Dit veld is vereist."},
	"de-de": {textRequired: "Dieses Feld ist zwingend erforderlich."},
}

// The texts of Django REST framework that depend on the language.
const (
	textRequired      = "This field is required."
	textNull          = "This field may not be null."
	textBlank         = "This field may not be blank."
	textChoice        = `"%s" is not a valid choice.`
	textString        = "Not a valid string."
	textDictionary    = "Invalid data. Expected a dictionary, but got %s."
	textNotFound      = "Not found."
	textPage          = "Invalid page."
	textMethod        = `Method "%s" not allowed.`
	textMediaType     = `Unsupported media type "%s" in request.`
	textAccept        = "Could not satisfy the request Accept header."
	textNoCredentials = "Authentication credentials were not provided."
	textPermission    = "You do not have permission to perform this action."
)

// text returns a text in the language of the call.
func (c *call) text(english string, values ...any) string {
	format := cmp.Or(translations[c.language][english], english)
	if len(values) == 0 {
		return format
	}
	return fmt.Sprintf(format, values...)
}

// acceptedLanguage chooses a language of Meet by Accept-Language (RFC 9110
// §12.5.4), looking only at the part before a dash.
func acceptedLanguage(header string) string {
	type choice struct {
		language string
		q        float64
	}
	var choices []choice
	for part := range strings.SplitSeq(strings.ToLower(header), ",") {
		tag, weight, weighted := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if weighted {
			var err error
			q, err = strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
			if err != nil {
				return defaultLanguage
			}
		}
		primary, _, _ := strings.Cut(strings.TrimSpace(tag), "-")
		choices = append(choices, choice{primary, q})
	}
	slices.SortStableFunc(choices, func(a, b choice) int { return cmp.Compare(b.q, a.q) })
	for _, ch := range choices {
		if l := languages[ch.language]; l != "" && ch.q > 0 {
			return l
		}
	}
	return defaultLanguage
}
